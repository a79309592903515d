"""The key file on disk: replaced whole, readable by whom it was readable before, one writer at a time."""

import os
import threading
from pathlib import Path

import pytest

from aibrix_extproc.adapters.keyfile.source import read_keys
from aibrix_extproc.adapters.keyfile.store import add_key, remove_key
from aibrix_extproc.config_files.errors import SourceFormatError, SourceLookupError
from aibrix_extproc.core.access.holders import IssuedKey, digest_of
from aibrix_extproc.core.openai.contract.operations import Role
from aibrix_extproc.core.placing import Caller


def add(path: Path, name: str, key: str, *, admin: bool = False) -> None:
    digest = digest_of(key)
    add_key(
        path,
        Caller(name, role=Role.ADMIN if admin else Role.USER),
        digest,
        lambda key_id: IssuedKey(key_id, digest, "2026-11-23"),
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.yaml"


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_new_file_is_for_its_owner_only(path: Path) -> None:
    add(path, "team-a", "one")
    assert mode_of(path) == 0o600
    assert [holder.caller.name for holder in read_keys(path)] == ["team-a"]
    assert list(path.parent.iterdir()) == [path], "nothing is left behind"


def test_file_that_was_there_keeps_its_mode_and_its_link(path: Path, tmp_path: Path) -> None:
    real = tmp_path / "real.yaml"
    real.write_text("callers: []\n")
    real.chmod(0o640)
    path.symlink_to(real)
    add(path, "team-a", "one")
    assert path.is_symlink()
    assert mode_of(real) == 0o640
    assert read_keys(real)


def test_id_is_the_beginning_of_the_hash_as_long_as_it_must_be(path: Path) -> None:
    digest = digest_of("one").hex()
    path.write_text(f"callers:\n- name: a\n  keys:\n  - id: k_{digest[:4]}\n    hash: sha256:{'0' * 64}\n")
    add(path, "b", "one")
    assert read_keys(path)[1].keys[0].id == f"k_{digest[:5]}"


def test_second_key_of_a_caller_keeps_its_permissions(path: Path) -> None:
    add(path, "team-a", "one", admin=True)
    add(path, "team-a", "two")
    (holder,) = read_keys(path)
    assert holder.caller.role is Role.ADMIN
    assert len(holder.keys) == 2


def test_other_permissions_for_a_caller_that_is_there_are_refused(path: Path) -> None:
    add(path, "team-a", "one")
    before = path.read_bytes()
    with pytest.raises(SourceFormatError, match="team-a is there already with other permissions"):
        add(path, "team-a", "two", admin=True)
    assert path.read_bytes() == before


def test_removed_key_is_gone(path: Path) -> None:
    add(path, "team-a", "one")
    (key,) = read_keys(path)[0].keys
    assert remove_key(path, key.id).keys == (key,)
    assert read_keys(path)[0].keys == ()
    with pytest.raises(SourceLookupError, match="no key with the id"):
        remove_key(path, key.id)


def test_broken_file_is_not_touched(path: Path) -> None:
    path.write_text("callers: [")
    with pytest.raises(SourceFormatError, match="not YAML"):
        add(path, "team-a", "one")
    assert path.read_text() == "callers: ["


def test_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceLookupError, match="create the directory"):
        add(tmp_path / "none" / "keys.yaml", "team-a", "one")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere; run as another user")
def test_directory_that_cannot_be_written_is_named(path: Path) -> None:
    path.write_text("callers: []\n")
    path.parent.chmod(0o500)
    with pytest.raises(SourceLookupError, match="cannot be written: Permission denied"):
        add(path, "team-a", "one")


def test_writers_at_the_same_time_lose_nothing(path: Path) -> None:
    threads = [threading.Thread(target=add, args=(path, f"team-{n % 3}", f"key-{n}")) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(len(holder.keys) for holder in read_keys(path)) == 12
