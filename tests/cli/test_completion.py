"""Completion as the shell runs it, and what is said of words that are nearly right."""

import subprocess
from collections.abc import Sequence

import pytest

from aibrix_extproc.cli.completion import SHELLS
from aibrix_extproc.cli.main import COMMANDS, main
from aibrix_extproc.core.nearest import did_you_mean
from tests import warm

pytestmark = pytest.mark.slow


def script(shell: str) -> str:
    return subprocess.run(
        warm.command("aibrix_extproc", "completion", shell), capture_output=True, text=True, check=True
    ).stdout


@pytest.fixture(scope="module")
def bash() -> str:
    return script("bash")


def completed(bash: str, *words: str) -> Sequence[str]:
    """What bash offers for the last word."""
    line = " ".join(f"'{word}'" for word in ("aibrix-extproc", *words))
    program = f'{bash}\nCOMP_WORDS=({line}); COMP_CWORD={len(words)}; _shtab_aibrix_extproc; echo "${{COMPREPLY[@]}}"'
    ran = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
    return ran.stdout.split()


def test_bash_completes_commands_options_and_values(bash: str) -> None:
    assert completed(bash, "lo") == ["local"]
    assert set(completed(bash, "")) >= {command.name for command in COMMANDS}
    assert completed(bash, "chat", "--mod") == ["--model"]
    assert completed(bash, "keys", "re") == ["revoke"]
    assert completed(bash, "serve", "--strategy", "r") == ["random", "round-robin"]
    assert completed(bash, "serve", "--log-format", "j") == ["json"]


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_has_a_script_that_names_every_command(shell: str) -> None:
    text = script(shell)
    assert all(command.name in text for command in COMMANDS)


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("locla",), "local"),
        (("--verison",), "--version"),
        (("chat", "--modle", "x"), "--model"),
        (("serve", "--stratgy=x"), "--strategy"),
        (("keys", "nwe"), "new"),
        (("keys", "new", "--calller", "x"), "--caller"),
        (("simulate", "--task", "embd"), "embed"),
        (("serve", "--endpoint", "http://127.0.0.1:1", "--strategy", "least-requests"), "least-request"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else value,
)
def test_word_that_is_nearly_right_is_told_with_the_right_one(
    words: Sequence[str], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code: object = main(words)
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    assert f"did you mean {meant}?" in capsys.readouterr().err


def test_word_that_is_like_nothing_gets_no_suggestion() -> None:
    assert did_you_mean("xyzzy", ["local", "serve"]) == ""
    assert did_you_mean("l" * 10_000_000, ["local"]) == ""
