"""The key file while it is watched: who may call changes with each good edit and with no other."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from aibrix_extproc.adapters.keyfile.source import MAX_FILE_BYTES, read_keys
from aibrix_extproc.config_files.file import FollowedFile, Pace, SourceStatus
from aibrix_extproc.core.access.holders import KeyHolder, digest_of
from tests.waiting import until

FAST = Pace(poll_seconds=0.01, settle_seconds=0.01, retry_seconds=0.01)


def content(*names: str) -> str:
    if not names:
        return "callers: []\n"
    return "callers:\n" + "".join(
        f"- name: {name}\n  keys:\n  - id: k_{name}\n    hash: sha256:{digest_of(name).hex()}\n" for name in names
    )


class Watched:
    """A key file with what it emitted and reported."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.read: list[list[str]] = []
        self.statuses: list[SourceStatus] = []
        self.source = FollowedFile("keys", path, read_keys, self.statuses.append, pace=FAST)

    def emit(self, holders: tuple[KeyHolder, ...]) -> None:
        self.read.append([holder.caller.name for holder in holders])

    @property
    def status(self) -> SourceStatus:
        return self.source.status


@asynccontextmanager
async def running(watched: Watched) -> AsyncIterator[None]:
    task = asyncio.ensure_future(watched.source.run(watched.emit))
    try:
        yield
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path / "keys.yaml")


@pytest.mark.parametrize("by_rename", [False, True], ids=["in-place", "by-rename"])
async def test_key_file_is_read_and_read_again_after_an_edit(watched: Watched, by_rename: bool) -> None:
    watched.path.write_text(content("a"))
    async with running(watched):
        await until(lambda: watched.read == [["a"]])
        target = watched.path.with_suffix(".new") if by_rename else watched.path
        target.write_text(content("a", "bb"))
        target.replace(watched.path)
        await until(lambda: watched.read == [["a"], ["a", "bb"]])
    assert [status.ok for status in watched.statuses] == [True]


async def test_mounted_secret_is_read_again_when_kubernetes_swaps_its_links(tmp_path: Path) -> None:
    for number, name in enumerate(("a", "b")):
        (tmp_path / f"..2026_{number}").mkdir()
        (tmp_path / f"..2026_{number}" / "keys.yaml").write_text(content(name))
    data, path = tmp_path / "..data", tmp_path / "keys.yaml"
    data.symlink_to("..2026_0")
    path.symlink_to("..data/keys.yaml")
    watched = Watched(path)
    async with running(watched):
        await until(lambda: watched.read == [["a"]])
        (tmp_path / "..data_tmp").symlink_to("..2026_1")
        (tmp_path / "..data_tmp").replace(data)
        await until(lambda: watched.read == [["a"], ["b"]])
    assert watched.status.ok


@pytest.mark.parametrize(
    ("broken", "error"),
    [
        (b"callers: [", "not YAML"),
        (b"", "the file is empty"),
        (b"callers:\n- name: \xff\n", "line 2: not UTF-8"),
        ((content("a") + content("a").removeprefix("callers:\n")).encode(), "the name a is given already on line 2"),
        (b"# " + b"x" * MAX_FILE_BYTES, f"is over {MAX_FILE_BYTES} bytes"),
    ],
    ids=["not-yaml", "empty", "not-utf-8", "twice", "too-large"],
)
async def test_broken_edit_keeps_the_last_keys_and_says_so_until_mended(
    watched: Watched, broken: bytes, error: str
) -> None:
    watched.path.write_text(content("a"))
    async with running(watched):
        await until(lambda: watched.read == [["a"]])
        watched.path.write_bytes(broken)
        await until(lambda: not watched.status.ok)
        assert error in watched.status.error
        assert str(watched.path) in watched.status.error
        assert watched.read == [["a"]]
        watched.path.write_text(content("a", "b"))
        await until(lambda: watched.status.ok)
    assert watched.read == [["a"], ["a", "b"]]
    assert [status.ok for status in watched.statuses] == [True, False, True]


async def test_file_that_disappears_keeps_the_last_keys_and_is_read_when_it_is_back(watched: Watched) -> None:
    watched.path.write_text(content("a"))
    async with running(watched):
        await until(lambda: watched.read == [["a"]])
        watched.path.unlink()
        await until(lambda: not watched.status.ok)
        assert "the key file cannot be read: No such file or directory" in watched.status.error
        assert watched.read == [["a"]]
        watched.path.write_text(content())
        await until(lambda: watched.read == [["a"], []])
    assert watched.status.ok


async def test_file_that_was_never_good_emits_nothing(watched: Watched) -> None:
    async with running(watched):
        await until(lambda: bool(watched.statuses))
        watched.path.write_text("callers: 5")
        await until(lambda: "expected a list" in watched.status.error)
        assert watched.read == []
