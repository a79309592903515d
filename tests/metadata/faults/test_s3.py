"""A real S3 server dies or freezes below uploads and a batch; and the blob store against one."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import openai
import pytest

from aibrix_extproc.adapters.blobs.store import CHUNK_BYTES, BlobMissingError, BlobStore
from tests.metadata.faults.child import Crash, Options, When
from tests.metadata.faults.rig import planted
from tests.metadata.s3_server import BUCKET, S3Server, s3_server
from tests.metadata.test_batches import create, ended, line, rows
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.s3]
WANTED = [str(number) for number in range(600)]
MIB = 1024 * 1024


@pytest.fixture
def own(tmp_path: Path) -> Iterator[S3Server]:
    """A server that a test may stop."""
    folder = tmp_path / "s3"
    folder.mkdir()
    with s3_server(folder) as server:
        yield server


def killed(server: S3Server) -> Callable[[], None]:
    server.stop()
    return server.start


def frozen(server: S3Server) -> Callable[[], None]:
    server.send(signal.SIGSTOP)
    return lambda: server.send(signal.SIGCONT)


@pytest.mark.parametrize("breaking", [killed, frozen])
async def test_batch_survives_its_object_store(
    tmp_path: Path, own: S3Server, breaking: Callable[[S3Server], Callable[[], None]]
) -> None:
    url = f"s3://{BUCKET}/some"
    async with planted(tmp_path, environment=own.environment, blobs=url, lease_seconds=30.0) as plant:
        process = await plant.start()
        client = process.openai()
        plant.engine.hold.clear()
        made = await create(client, (line(one) for one in WANTED))
        await until(lambda: plant.engine.running > 0, "requests run")
        mend = breaking(own)
        try:
            plant.engine.hold.set()
            await until(lambda: plant.engine.running == 0, "the lines are answered and wait for their commit")
            found = await client.batches.retrieve(made.id)
            assert found.request_counts is not None
            assert found.request_counts.completed == 0
        finally:
            mend()
        done = await ended(client, made)
        assert [one["custom_id"] for one in await rows(client, done.output_file_id)] == WANTED
        assert set(plant.engine.asked.values()) == {1}, "a line ran twice"
        assert "Traceback" not in process.output()


async def test_upload_into_a_store_that_dies_is_refused_and_leaves_nothing(tmp_path: Path, own: S3Server) -> None:
    async with planted(tmp_path, environment=own.environment, blobs=f"s3://{BUCKET}/some") as plant:
        process = await plant.start()
        client = process.openai()
        own.stop()
        with pytest.raises(openai.InternalServerError) as caught:
            await client.files.create(file=("big.bin", bytes(20 * MIB)), purpose="user_data")
        assert (caught.value.status_code, caught.value.code) == (503, "storage_unavailable")
        own.start()
        assert [one async for one in client.files.list()] == []
        assert not objects(own)


async def test_object_without_a_row_is_swept_after_a_crash(tmp_path: Path, own: S3Server) -> None:
    crash = Options(Crash("aibrix_extproc.adapters.blobs.store:BlobStore.put", When.AFTER))
    settings = {"blobs": f"s3://{BUCKET}/some", "sweep_seconds": 1.0, "orphan_seconds": 1.0}
    async with planted(tmp_path, environment=own.environment, **settings) as plant:
        process = await plant.start(crash)
        with pytest.raises(openai.APIConnectionError):
            await process.openai().files.create(file=("big.bin", bytes(20 * MIB)), purpose="user_data")
        assert len(objects(own)) == 1
        await plant.start()
        await until(lambda: not objects(own), "the orphan is gone")


def objects(server: S3Server) -> list[Path]:
    """The files of the bucket that are objects. S3 may keep parts that were on their way when an upload was aborted."""
    return [path for path in server.bucket.rglob("*") if path.is_file() and ".sgwtmp" not in path.parts]


@pytest.fixture
def blobs(s3: S3Server) -> BlobStore:
    assert s3.environment
    return BlobStore(f"s3://{BUCKET}/{os.urandom(6).hex()}")


async def test_listing_has_more_than_one_page(blobs: BlobStore) -> None:
    """S3 lists a thousand keys at once."""
    wanted = {f"files/{number:04}" for number in range(1100)}
    await asyncio.gather(*(blobs.put_bytes(key, b"x") for key in wanted))
    assert {key async for key, _ in blobs.listed("files")} == wanted


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 7])
async def test_content_of_any_number_of_parts_comes_back(blobs: BlobStore, size: int) -> None:
    content = os.urandom(size)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, size, 100_000):
            yield content[start : start + 100_000]

    await blobs.put("a/b", pieces())
    assert b"".join([piece async for piece in blobs.stream("a/b", 0, size)]) == content
    assert await blobs.read("a/b", size // 2, size) == content[size // 2 :]


async def test_content_that_breaks_off_leaves_no_object(blobs: BlobStore, s3: S3Server) -> None:
    before = objects(s3)

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield bytes(MIB)
        raise ValueError("the client went away")

    with pytest.raises(ValueError, match="went away"):
        await blobs.put("a/b", pieces())
    assert not await blobs.exists("a/b")
    with pytest.raises(BlobMissingError):
        await blobs.read("a/b", 0, 1)
    assert objects(s3) == before
