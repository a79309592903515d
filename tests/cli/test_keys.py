"""`aibrix-extproc keys`: what a user types, what comes back, and with which exit code."""

import io
import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from aibrix_extproc.adapters.keyfile.source import read_keys
from aibrix_extproc.cli.main import main
from aibrix_extproc.core.access.keys import KeyRing
from aibrix_extproc.core.openai.contract.operations import Role
from aibrix_extproc.core.placing import Caller

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.yaml"


def new(path: Path, capsys: Captured, *options: str, caller: str = "team-a") -> str:
    """A key, as a script would take it."""
    assert main(["keys", "new", "--file", str(path), "--caller", caller, *options]) == 0
    return capsys.readouterr().out.removesuffix("\n")


def listed(path: Path, capsys: Captured) -> list[dict[str, Any]]:
    assert main(["keys", "list", "--file", str(path), "--json"]) == 0
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return rows


def refusal(capsys: Captured, *words: str) -> str:
    """What is said to somebody who typed something wrong."""
    with pytest.raises(SystemExit) as ended:
        main(["keys", *words])
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_new_key_has_the_documented_form_and_gets_its_caller_in(path: Path, capsys: Captured) -> None:
    key = new(path, capsys)
    assert re.fullmatch(r"sk-[A-Za-z0-9_-]{48}", key)
    assert KeyRing(read_keys(path)).authenticate(f"Bearer {key}", None, time.time()) == Caller("team-a")
    assert key not in path.read_text()


def test_new_key_for_a_file_that_is_not_edited_works_once_its_lines_are_there(path: Path, capsys: Captured) -> None:
    path.write_text('{"callers": []}')
    assert main(["keys", "new", "--file", str(path), "--caller", "team-a", "--note", "a: b"]) == 2
    assert path.read_text() == '{"callers": []}'
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith(("- ", "  "))]
    path.write_text("callers:\n" + "\n".join(lines) + "\n")
    key = captured.out.removesuffix("\n")
    assert KeyRing(read_keys(path)).authenticate(f"Bearer {key}", None, time.time()) == Caller("team-a")


def test_new_keys_differ_and_the_file_keeps_what_else_is_in_it(path: Path, capsys: Captured) -> None:
    path.write_text("# ours\ncallers:\n- name: team-b  # the other team\n  keys: []\n")
    assert len({new(path, capsys), new(path, capsys), new(path, capsys, caller="team-b")}) == 3
    text = path.read_text()
    assert text.startswith("# ours\ncallers:\n- name: team-b  # the other team\n  keys:\n  - hash: sha256:")
    assert [len(holder.keys) for holder in read_keys(path)] == [1, 2]


def test_options_of_new_end_up_in_the_file(path: Path, capsys: Captured) -> None:
    before = time.time()
    new(
        path, capsys, "--models", "chat-*,org/*", "--models", "emb", "--operations", "chat_completion, embedding",
        "--admin", "--engine-controls", "--expires", "90d", "--note", "Ann's laptop",
    )  # fmt: skip
    (holder,) = read_keys(path)
    assert holder.caller == Caller(
        "team-a",
        ("chat-*", "org/*", "emb"),
        frozenset({"chat_completion", "embedding"}),
        role=Role.ADMIN,
        engine_controls=True,
    )
    (key,) = holder.keys
    assert key.note == "Ann's laptop"
    assert key.created == datetime.now(UTC).date().isoformat()
    assert key.wall_expires_at is not None
    assert 0 <= key.wall_expires_at - int(before) - 90 * 86_400 < 60


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--expires", "soon"), "write 12h, 90d, 8w, a date"),
        (("--expires", "2020-01-01"), "is over already"),
        (("--expires", "2999-01-01T00:00:00"), "with its zone"),
        (("--operations", "chat_completions"), "did you mean chat_completion?"),
        (("--operations", "foo"), "'foo': there is no operation of this name; there are chat_completion, completion, "),
        (("--operations", ""), "is empty"),
        (("--models", "a,,b"), "is empty"),
        (("--note", "a\nb"), "printable"),
    ],
)
def test_option_that_makes_no_sense_is_refused_before_anything_is_written(
    path: Path, capsys: Captured, options: tuple[str, str], said: str
) -> None:
    assert said in refusal(capsys, "new", "--file", str(path), "--caller", "team-a", *options)
    assert not path.exists()


@pytest.mark.parametrize("name", ["", "team a", "key-1"])
def test_caller_with_a_name_that_no_file_may_have_is_refused(path: Path, capsys: Captured, name: str) -> None:
    assert "--caller" in refusal(capsys, "new", "--file", str(path), "--caller", name)


def test_list_shows_each_key_and_each_caller_without_one(path: Path, capsys: Captured) -> None:
    new(path, capsys, "--models", "chat-*", "--expires", "2999-01-01", "--note", "laptop")
    text = path.read_text()
    path.write_text(
        text + f"- name: old\n  keys:\n  - {{id: k_old, hash: 'sha256:{'0' * 64}', expires: 2020-01-01}}\n"
        f"  - {{id: k_off, hash: 'sha256:{'1' * 64}', disabled: true}}\n- name: none\n  keys: []\n"
    )
    rows = listed(path, capsys)
    assert [(row["caller"], row["state"]) for row in rows] == [
        ("team-a", "active"), ("old", "expired"), ("old", "disabled"), ("none", "no keys"),
    ]  # fmt: skip
    assert rows[0]["models"] == ["chat-*"]
    assert rows[0]["expires"] == "2999-01-01T00:00:00Z"
    assert main(["keys", "list", "--file", str(path)]) == 0
    head, first, *_ = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["CALLER", "ID", "STATE"]
    assert first.split()[:3] == ["team-a", rows[0]["id"], "active"]
    assert "sha256" not in first


def test_revoked_key_is_gone_and_a_second_time_unknown(path: Path, capsys: Captured) -> None:
    key, kept = new(path, capsys), new(path, capsys)
    (row, _) = listed(path, capsys)
    assert main(["keys", "revoke", "--file", str(path), row["id"]]) == 0
    assert f"{row['id']} of team-a is revoked" in capsys.readouterr().out
    assert main(["keys", "check", "--file", str(path), "--key", key]) == 1
    assert main(["keys", "check", "--file", str(path), "--key", kept]) == 0
    assert main(["keys", "revoke", "--file", str(path), row["id"]]) == 1
    assert f"no key with the id {row['id']}" in capsys.readouterr().err


def test_check_says_whom_a_key_lets_in_and_to_what(
    path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = new(path, capsys, "--models", "chat-*", "--admin")
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{key}\n"))
    assert main(["keys", "check", "--file", str(path), "--key", "-"]) == 0
    told = dict(line.split(":", 1) for line in capsys.readouterr().out.splitlines())
    said = {name: value.strip() for name, value in told.items()}
    assert said["caller"] == "team-a"
    assert (said["models"], said["operations"], said["rights"]) == ("chat-*", "all", "admin")
    assert (said["state"], said["expires"]) == ("active", "never")


def test_check_of_an_expired_key_says_so_and_fails(path: Path, capsys: Captured) -> None:
    key = new(path, capsys, "--expires", "2999-01-01")
    path.write_text(path.read_text().replace("2999", "2020"))
    assert main(["keys", "check", "--file", str(path), "--key", key]) == 1
    assert "expired" in capsys.readouterr().out


def test_check_without_a_key_validates_the_file(path: Path, capsys: Captured) -> None:
    new(path, capsys)
    assert main(["keys", "check", "--file", str(path)]) == 0
    assert "is good (callers: 1, keys: 1)" in capsys.readouterr().out
    path.write_text("callers:\n- nam: a\n")
    assert main(["keys", "check", "--file", str(path)]) == 2
    assert f"{path}, line 2, callers[0].nam: unknown field" in capsys.readouterr().err


@pytest.mark.parametrize("words", [("list",), ("check", "--key", "x"), ("revoke", "k_1")])
def test_missing_file_is_an_error_of_usage(path: Path, capsys: Captured, words: tuple[str, ...]) -> None:
    assert main(["keys", words[0], "--file", str(path), *words[1:]]) == 2
    assert "the key file cannot be read" in capsys.readouterr().err


def test_new_for_a_disabled_caller_warns(path: Path, capsys: Captured) -> None:
    path.write_text("callers:\n- name: team-a\n  keys: []\n  disabled: true\n")
    assert main(["keys", "new", "--file", str(path), "--caller", "team-a"]) == 0
    assert "team-a is disabled in the file" in capsys.readouterr().err
