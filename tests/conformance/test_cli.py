"""The command: options in, exit code out."""

import subprocess
import sys
from pathlib import Path

import pytest

from aibrix_extproc.cli.main import main
from aibrix_extproc.conformance.table import CASES, GROUPS
from tests.conformance.fake import deployment, silent


@pytest.mark.parametrize(
    ("words", "text"),
    [((), "--base-url is missing"), (("--base-url", "http://h"), "must end in /v1"),
     (("--list", "--select", "x"), "--select x: no such group"), (("--list", "--only", "X-1"), "X-1: no such case"),
     (("--list", "--only", "URL-01", "--skip", "URL-01"), "no case is left to ask"),
     (("--list", "--only", "REQ-24", "--quick"), "no case is left to ask"),
     (("--base-url", "http://h/v1", "--api-key", "a b"), "the key of --api-key must be visible ASCII"),
     (("--base-url", "http://h/v1", "--api-key-file", "/no/such/file"), "cannot be read"),
     (("--base-url", "http://h/v1", "--json", "/no/such/dir/x"), "cannot be written")],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_bad_usage_exits_2_with_one_sentence(
    words: tuple[str, ...], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["conformance", *words]) == 2
    said = capsys.readouterr().err
    assert text in said
    assert said.startswith("aibrix-extproc conformance: ")
    assert said.count("\n") == 1


@pytest.mark.parametrize("words", [("--timeout", "x"), ("--timeout", "0"), ("--concurrency", "0"), ("--streams", "x")])
def test_bad_numbers_exit_2(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["conformance", "--list", *words])
    assert ended.value.code == 2
    assert "must be a positive number" in capsys.readouterr().err


def test_list_shows_every_case(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conformance", "--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [case.id for case in CASES]


def test_list_obeys_the_choice(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conformance", "--list", "--select", "urls,models", "--skip", "URL-01, MOD-01"]) == 0
    wanted = [case.id for group in ("urls", "models") for case in GROUPS[group] if case.id not in ("URL-01", "MOD-01")]
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == wanted


def test_nobody_at_the_base_url_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    with silent() as url:
        pass
    assert main(["conformance", "--base-url", url]) == 2
    assert capsys.readouterr().err == f"aibrix-extproc conformance: {url} cannot be reached: Connection refused\n"


def test_a_wrong_key_exits_2_and_does_not_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = "sk-0123456789abcdef"
    (tmp_path / "key").write_text(key + "\n")
    body = b'{"error":{"message":"Incorrect API key provided: sk-0123456789abcdef"}}'
    with deployment(lambda method, path: (401, {}, body)) as url:
        assert main(["conformance", "--base-url", url, "--api-key-file", str(tmp_path / "key")]) == 2
    said = capsys.readouterr().err
    assert said.endswith("refuses the API key (401: Incorrect API key provided: ***)\n")


def test_a_missing_sdk_exits_2_and_says_how_to_get_it() -> None:
    program = (
        "import sys\nsys.modules['openai'] = None\n"
        "from aibrix_extproc.cli.main import main\n"
        "assert main(['conformance', '--list', '--only', 'URL-01']) == 0\n"  # the list needs no SDK
        "sys.exit(main(['conformance', '--base-url', 'http://127.0.0.1:1/v1']))\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "the OpenAI SDK is missing; in the clone run pip install -e '.[conformance]'" in ended.stderr
