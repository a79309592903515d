"""A process that dies between two steps of its work: the next one ends it, and nothing is left behind."""

import asyncio
from pathlib import Path

import openai
import pytest

from tests.metadata.faults.child import Crash, Options, When
from tests.metadata.faults.rig import SHORT_LEASE_SECONDS, Plant, planted
from tests.metadata.faults.test_kills import only_files_are_stored
from tests.metadata.test_batches import create, ended, line, rows

pytestmark = pytest.mark.slow
_BLOBS = "aibrix_extproc.adapters.blobs.store:BlobStore"
_FILES = "aibrix_extproc.adapters.ledger.files:FileLedger"
_BATCHES = "aibrix_extproc.adapters.ledger.batches:BatchLedger"
_WORK = "aibrix_extproc.adapters.ledger.work:WorkLedger"

# While a client asks: what it finds afterwards, files and batches.
ASKED = {
    "content stored, no row": (Crash(f"{_BLOBS}.put"), (0, 0)),
    "inside of the file's transaction": (Crash(f"{_FILES}.add", When.INSIDE), (0, 0)),
    "file's row written, no answer": (Crash(f"{_FILES}.add"), (1, 0)),
    "inside of the batch's transaction": (Crash(f"{_BATCHES}.add", When.INSIDE), (1, 0)),
    "batch's row written, no answer": (Crash(f"{_BATCHES}.add"), (1, 1)),
}
# While a batch is worked on. Results, then the output part and the error part of its shard, are blobs 1, 2 and 3.
WORKED = {
    "inside of its start": Crash(f"{_WORK}.start", When.INSIDE),
    "shard claimed": Crash(f"{_WORK}.segments"),
    "results stored, no row": Crash(f"{_BLOBS}.put_bytes"),
    "inside of the commit of results": Crash(f"{_WORK}.commit", When.INSIDE),
    "results committed": Crash(f"{_WORK}.commit"),
    "output part stored, error part not": Crash(f"{_BLOBS}.put_bytes", call=2),
    "both parts stored, no row": Crash(f"{_BLOBS}.put_bytes", call=3),
    "shard done, its segments not removed": Crash(f"{_WORK}.finish"),
    "finalizing": Crash(f"{_WORK}.finalize"),
    "both files made, not committed": Crash(f"{_WORK}.end", When.INSIDE),
    "ended, what is left not removed": Crash(f"{_WORK}.end"),
}


@pytest.mark.parametrize("name", ASKED)
async def test_request_that_was_broken_off_left_all_or_nothing(tmp_path: Path, name: str) -> None:
    crash, (files, batches) = ASKED[name]
    async with planted(tmp_path) as plant:
        doomed = await plant.start(Options(crash), lease_seconds=SHORT_LEASE_SECONDS)
        with pytest.raises(openai.APIConnectionError):
            await create(doomed.openai(), [line("a")])
        assert await doomed.gone() < 0
        client = (await plant.start()).openai()
        assert len([one async for one in client.files.list(purpose="batch")]) == files
        listed = [one async for one in client.batches.list()]
        assert len(listed) == batches
        for one in listed:
            assert (await ended(client, one)).status == "completed"
        await only_files_are_stored(plant, plant.running[-1])


@pytest.mark.parametrize("name", WORKED)
async def test_batch_that_was_broken_off_ends_as_if_nothing_had_happened(tmp_path: Path, name: str) -> None:
    """Two good lines and two bad ones. The files are the same, byte by byte, wherever the first process died."""
    async with planted(tmp_path) as plant:
        plant.engine.fault = lambda text, _: (400, {}) if text.startswith("bad") else None
        doomed = await plant.start(Options(WORKED[name]), lease_seconds=SHORT_LEASE_SECONDS)
        made = await create(doomed.openai(), [line(one) for one in ("bad-1", "good-1", "good-2", "bad-2")])
        assert await doomed.gone() < 0
        committed = plant.committed()
        asked = plant.engine.asked.copy()
        following = await plant.start()
        client = following.openai()
        done = await ended(client, made)
        assert done.request_counts is not None
        assert done.request_counts.model_dump() == {"completed": 2, "failed": 2, "total": 4}
        output, errors = await rows(client, done.output_file_id), await rows(client, done.error_file_id)
        assert [one["custom_id"] for one in output] == ["good-1", "good-2"]
        assert [one["custom_id"] for one in errors] == ["bad-1", "bad-2"]
        assert {one: plant.engine.asked[one] for one in committed} == {one: asked[one] for one in committed}
        assert max(plant.engine.asked.values()) <= 2
        await only_files_are_stored(plant, following)


async def test_finalisation_that_was_broken_off_makes_the_same_files(tmp_path: Path) -> None:
    """Ids and contents of both files, from a process that died with both made, and from the one that came after."""
    async with planted(tmp_path) as plant:
        plant.engine.fault = lambda text, _: (400, {}) if text == "bad" else None
        doomed = await plant.start(Options(Crash(f"{_WORK}.end", When.BEFORE)), lease_seconds=SHORT_LEASE_SECONDS)
        made = await create(doomed.openai(), [line("bad"), line("good")])
        assert await doomed.gone() < 0
        blobs = parts(plant)
        second = await plant.start(Options(Crash(f"{_WORK}.end", When.INSIDE)), lease_seconds=SHORT_LEASE_SECONDS)
        assert await second.gone() < 0
        assert parts(plant) == blobs
        third = await plant.start()
        done = await ended(third.openai(), made)
        found = plant.rows("SELECT file_id, blob FROM file_segments ORDER BY blob")
        assert {blob for file, blob in found if file in (done.output_file_id, done.error_file_id)} == set(blobs)
        await only_files_are_stored(plant, third)


def parts(plant: Plant) -> list[str]:
    """The blobs that become the two files."""
    (found,) = plant.rows("SELECT output_blob, error_blob FROM batch_shards")
    return sorted(found)


async def test_processes_that_start_at_once_on_nothing_share_one_database(tmp_path: Path) -> None:
    """The schema is made under a lock, and each line runs once."""
    async with planted(tmp_path) as plant:
        started = [plant.launch() for _ in range(4)]
        await asyncio.gather(*(one.ready() for one in started))
        wanted = [str(number) for number in range(600)]
        client = started[0].openai()
        done = await ended(client, await create(client, (line(one) for one in wanted)))
        assert [one["custom_id"] for one in await rows(client, done.output_file_id)] == wanted
        assert set(plant.engine.asked.values()) == {1}
