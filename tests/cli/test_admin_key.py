"""The key of an administrator that `local` leaves for commands of the same user."""

import argparse
from pathlib import Path

import pytest

from aibrix_extproc.app.local.secrets import admin_key, forget_admin_key
from aibrix_extproc.cli.connection import where
from aibrix_extproc.settings import load
from aibrix_extproc.settings.admin_key import found_admin_key, local_admin_key

HERE = "http://127.0.0.1:8099/v1"


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-a-user")


def asked(base_url: str, *, admin: bool = True) -> str:
    args = argparse.Namespace(base_url=base_url, api_key_file=None)
    return where(args, admin=admin)[1]


def test_commands_for_administrators_find_the_key_and_only_they_use_it(tmp_path: Path) -> None:
    path = admin_key(load(environment={}), tmp_path, 8099)
    key = path.read_text().strip()
    assert len(key) > 50
    assert path.stat().st_mode & 0o777 == local_admin_key(8099).stat().st_mode & 0o777 == 0o600
    assert asked(HERE) == key
    assert asked(HERE, admin=False) == "sk-of-a-user"
    for elsewhere in ("http://127.0.0.1:8098/v1", "http://example.org:8099/v1", "http://127.0.0.1/v1", "http://[/"):
        assert found_admin_key(elsewhere) is None
    forget_admin_key(8099)
    assert asked(HERE) == "sk-of-a-user"


def test_a_key_that_others_could_read_is_not_used(tmp_path: Path) -> None:
    admin_key(load(environment={}), tmp_path, 8099)
    local_admin_key(8099).chmod(0o644)
    assert found_admin_key(HERE) is None


def test_a_key_file_that_is_configured_is_left_alone(tmp_path: Path) -> None:
    given = load(environment={"AIBRIX_EXTPROC_ACCESS__ADMIN_KEY_FILE": str(tmp_path / "mine")})
    assert admin_key(given, tmp_path, 8099) == tmp_path / "mine"
    assert not local_admin_key(8099).exists()
