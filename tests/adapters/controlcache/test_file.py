"""The cached control state: whatever happens to its file, what is read is a state that once was."""

from pathlib import Path

import pytest

from aibrix_extproc.adapters.controlcache import file as cache_file
from aibrix_extproc.adapters.controlcache.file import CacheError, ControlCache
from aibrix_extproc.core.control.feed import encode_page
from aibrix_extproc.core.control.rows import Page, Section
from aibrix_extproc.core.control.state import ControlState
from tests.core.control.test_state import Size, a_row


def state_in(path: Path) -> tuple[dict[str, int], int, bool]:
    state = ControlState()
    view = state.view(Section.LIMITS, Size)
    for page in ControlCache(path).load():
        state.apply(page)
    return {name: one.size for name, one in view.records.items()}, state.version, state.complete


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control.cache"


def test_pages_are_there_after_a_restart(path: Path) -> None:
    cache = ControlCache(path)
    assert cache.load() == ()
    cache.append(Page("h", 2, (a_row("a", 1, 1), a_row("b", 2, 2)), restart=True))
    cache.append(Page("h", 4, (a_row("a", 3, None), a_row("b", 4, 3))))
    assert path.stat().st_mode & 0o777 == 0o600
    for _ in range(2):  # the first one merges
        assert state_in(path) == ({"b": 3}, 4, True)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_line_that_was_not_written_whole_is_left_out(path: Path) -> None:
    cache = ControlCache(path)
    cache.append(Page("h", 1, (a_row("a", 1, 1),), restart=True))
    size = path.stat().st_size
    cache.append(Page("h", 2, (a_row("a", 2, 2),)))
    whole = path.read_bytes()
    for cut in range(size, len(whole) - 1):
        path.write_bytes(whole[:cut])
        assert state_in(path) == ({"a": 1}, 1, True)
    path.write_bytes(b"\x00garbage")
    assert state_in(path) == ({}, 0, False)


def test_a_restart_that_was_not_whole_is_left_out(path: Path) -> None:
    cache = ControlCache(path)
    cache.append(Page("h", 1, (a_row("a", 1, 1),), restart=True))
    cache.append(Page("k", 1, (a_row("b", 1, 1),), restart=True, more=True))
    assert state_in(path) == ({"a": 1}, 1, True)


def test_the_file_does_not_grow_with_the_number_of_changes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_file, "_SLACK_BYTES", 1000)
    cache = ControlCache(path)
    for number in range(1, 200):
        cache.append(Page("h", number, (a_row("a", number, number),), restart=number == 1))
    assert path.stat().st_size < 2000
    assert state_in(path) == ({"a": 199}, 199, True)


def test_a_file_that_cannot_be_used_is_one_sentence(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.mkdir()
    with pytest.raises(CacheError, match="Is a directory"):
        ControlCache(path).load()
    with pytest.raises(CacheError, match="Is a directory"):
        ControlCache(path).append(Page("h", 1, ()))
    path.rmdir()
    path.write_bytes(encode_page(Page("h", 1, ())))
    monkeypatch.setattr(cache_file, "MAX_BYTES", 10)
    with pytest.raises(CacheError, match="remove it"):
        ControlCache(path).load()
