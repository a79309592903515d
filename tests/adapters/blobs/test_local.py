"""Contents in a local folder: whole and hashed, or not there."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aibrix_extproc.adapters.blobs.local import BUFFER_BYTES, UNFINISHED
from aibrix_extproc.adapters.blobs.store import BlobError, BlobStore


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(f"file://{tmp_path}")


async def cut(content: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("size", [0, 1, BUFFER_BYTES - 1, BUFFER_BYTES, BUFFER_BYTES + 1, 7 * BUFFER_BYTES + 7])
@pytest.mark.parametrize("piece", [300_007, 3 * BUFFER_BYTES + 1])
async def test_content_of_any_size_is_stored_and_hashed(
    blobs: BlobStore, tmp_path: Path, size: int, piece: int
) -> None:
    content = os.urandom(size)
    assert await blobs.put("some/key", cut(content, piece)) == hashlib.sha256(content).hexdigest()
    assert (tmp_path / "some" / "key").read_bytes() == content
    assert names(tmp_path) == ["key"]


async def test_content_that_breaks_off_leaves_nothing(blobs: BlobStore, tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield bytes(3 * BUFFER_BYTES)
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        await blobs.put("some/key", broken())
    assert not names(tmp_path)


async def test_cancelled_content_leaves_nothing(blobs: BlobStore, tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield bytes(3 * BUFFER_BYTES)
        begun.set()
        await asyncio.Event().wait()

    putting = asyncio.create_task(blobs.put("some/key", endless()))
    await begun.wait()
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert not names(tmp_path)


async def test_content_is_not_read_to_its_end_when_the_folder_takes_nothing(blobs: BlobStore, tmp_path: Path) -> None:
    (tmp_path / "some").touch()
    read = 0

    async def long() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(1000):
            read += 1
            yield bytes(BUFFER_BYTES)

    with pytest.raises(BlobError):
        await blobs.put("some/key", long())
    assert read < 1000
    assert names(tmp_path) == ["some"]


async def test_two_writers_of_one_key_do_not_meet(blobs: BlobStore, tmp_path: Path) -> None:
    """The old owner of a lease and the new one write the same bytes."""
    content = os.urandom(3 * BUFFER_BYTES)
    await asyncio.gather(*(blobs.put("key", cut(content, 100_003)) for _ in range(4)), blobs.put_bytes("key", content))
    assert (tmp_path / "key").read_bytes() == content
    assert names(tmp_path) == ["key"]


async def test_what_a_killed_process_left_is_listed_for_the_sweep(blobs: BlobStore, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / f"key.0123{UNFINISHED}").write_bytes(b"half")
    assert [key async for key, _ in blobs.listed("files")] == [f"files/key.0123{UNFINISHED}"]
