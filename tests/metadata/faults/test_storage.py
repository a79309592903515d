"""A blob store that fails, is slow or is full, and a full disk: clear answers, nothing half, no line twice."""

import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import openai
import pytest

from tests.metadata.faults.objects import BUCKET, ObjectStore
from tests.metadata.faults.rig import Plant, Running, planted
from tests.metadata.test_batches import create, ended, line, rows
from tests.waiting import until

pytestmark = pytest.mark.slow
MIB = 1024 * 1024
WANTED = [str(number) for number in range(300)]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if os.getuid() or subprocess.run(mounted, capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Callable[[], None]:
    """Leave no byte free; the function that gives them back."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass
    return filler.unlink


def take_away(folder: Path) -> Callable[[], None]:
    """A file where the folder was; the function that brings it back."""
    away = folder.with_name("away")
    folder.rename(away)
    folder.touch()

    def back() -> None:
        folder.unlink()
        away.rename(folder)

    return back


async def test_full_blob_store_refuses_whole_and_a_batch_waits_for_room(small_disk: Path, tmp_path: Path) -> None:
    async with planted(tmp_path, blobs=f"file://{small_disk}/blobs") as plant:
        process = await plant.start()
        await breaks_and_mends(plant, process, lambda: fill(small_disk), "insufficient_storage")
        assert not list((small_disk / "blobs").rglob("*#*")), "half of a file is left"


async def test_blob_store_that_is_gone_is_told_and_a_batch_waits_for_it(tmp_path: Path) -> None:
    async with planted(tmp_path) as plant:
        process = await plant.start()
        kept = await process.openai().files.create(file=("a.txt", b"x" * MIB), purpose="user_data")
        mend = take_away(plant.blobs)
        with pytest.raises(openai.APIStatusError) as caught:
            await process.openai().files.content(kept.id)
        assert caught.value.status_code >= 500 or caught.value.status_code == 410
        mend()
        await breaks_and_mends(plant, process, lambda: take_away(plant.blobs), "storage_unavailable")
        assert len((await process.openai().files.content(kept.id)).content) == MIB


async def breaks_and_mends(
    plant: Plant, process: Running, breaking: Callable[[], Callable[[], None]], code: str
) -> None:
    client = process.openai()
    plant.engine.hold.clear()
    made = await create(client, (line(one) for one in WANTED))
    await until(lambda: plant.engine.running > 0, "requests run")
    mend = breaking()
    plant.engine.hold.set()
    await until(lambda: "results were not stored" in process.output(), process.output)
    with pytest.raises(openai.InternalServerError) as caught:
        await client.files.create(file=("b.txt", b"x" * MIB), purpose="user_data")
    assert (caught.value.status_code, caught.value.code) == (503, code)
    mend()
    done = await ended(client, made)
    assert [one["custom_id"] for one in await rows(client, done.output_file_id)] == WANTED
    assert set(plant.engine.asked.values()) == {1}, "a line ran twice"


async def test_full_disk_stops_everything_and_loses_nothing(small_disk: Path, tmp_path: Path) -> None:
    """Database and blobs on one disk: the lease cannot be renewed either."""
    async with planted(tmp_path, data_dir=str(small_disk)) as plant:
        process = await plant.start()
        client = process.openai()
        plant.engine.hold.clear()
        made = await create(client, (line(one) for one in WANTED))
        await until(lambda: plant.engine.running > 0, "requests run")
        mend = fill(small_disk)
        plant.engine.hold.set()
        with pytest.raises(openai.InternalServerError) as caught:
            await client.files.create(file=("b.txt", b"x"), purpose="user_data")
        assert caught.value.code == "insufficient_storage"
        await until(lambda: "not stored" in process.output() or "not renewed" in process.output(), process.output)
        mend()
        done = await ended(client, made)
        assert [one["custom_id"] for one in await rows(client, done.output_file_id)] == WANTED
        assert max(plant.engine.asked.values()) <= 2


@pytest.fixture
async def objects() -> AsyncIterator[ObjectStore]:
    """A store over the network, of which the processes know by their environment."""
    store = ObjectStore()
    yield store
    await store.stop()


async def test_object_store_that_is_slow_and_fails_now_and_then(objects: ObjectStore, tmp_path: Path) -> None:
    """Each request takes longer than a renewal of the lease, and each third one is refused."""
    environment = {
        "AWS_ENDPOINT": await objects.start(), "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "x",
    }  # fmt: skip
    settings = {"blobs": f"s3://{BUCKET}/some", "lease_seconds": 4.0}
    async with planted(tmp_path, environment=environment, **settings) as plant:
        process = await plant.start()
        client = process.openai()
        asked = 0

        def fault(*_: str) -> int | None:
            nonlocal asked
            asked += 1
            return 503 if asked % 3 == 0 else None

        objects.fault, objects.pause = fault, 0.9
        big = bytes(range(256)) * (4096 * 17)  # more than two parts of a multipart upload
        file = await client.files.create(file=("big.bin", big), purpose="user_data")
        made = await create(client, (line(one) for one in WANTED))
        done = await ended(client, made)
        assert [one["custom_id"] for one in await rows(client, done.output_file_id)] == WANTED
        assert set(plant.engine.asked.values()) == {1}
        assert (await client.files.content(file.id)).content == big
        objects.fault = lambda *_: 500
        with pytest.raises(openai.InternalServerError) as caught:
            await client.files.content(file.id)
        assert caught.value.code == "storage_unavailable"
