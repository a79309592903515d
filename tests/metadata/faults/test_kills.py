"""kill -9 at random points of a batch: nothing is lost, nothing comes twice, and what is committed never runs again."""

import asyncio
import random
from collections import Counter
from pathlib import Path

import pytest
from openai.types import Batch

from tests.metadata.faults.rig import Plant, Running, planted
from tests.metadata.test_batches import create, ended, line, rows

pytestmark = pytest.mark.slow


class Killer:
    """Counts what engines are asked in the life of one process, and ends it at a number of requests."""

    def __init__(self, plant: Plant) -> None:
        self.life: Counter[str] = Counter()
        self._last = 0
        self._reached = asyncio.Event()
        self._process: Running | None = None
        self._engine = plant.engine
        plant.engine.fault = self._asked

    def begin(self, process: Running, last: int | None) -> None:
        """A new process; it dies inside of its request number `last`."""
        self.life.clear()
        self._process, self._last = process, last or 0
        self._reached.clear()

    def _asked(self, text: str, _: int) -> None:
        self.life[text] += 1
        if self._last and self.life.total() == self._last and self._process is not None:
            self._process.process.kill()
            self._reached.set()

    async def struck(self) -> None:
        """Wait for the death."""
        async with asyncio.timeout(60):
            await self._reached.wait()
        assert self._process is not None
        await self._process.gone()
        await self._engine.catch_up()


def points(seed: int, kills: int) -> list[int]:
    """Requests until the next death: some before anything can be committed, most after."""
    dice = random.Random(seed)
    return [dice.choice((dice.randint(1, 60), dice.randint(150, 500))) for _ in range(kills)]


@pytest.mark.parametrize(
    ("lines", "kills", "seed"), [(500, 5, 3), pytest.param(5000, 50, 15, marks=pytest.mark.faults)]
)
async def test_batch_survives_kills_at_random_points(tmp_path: Path, lines: int, kills: int, seed: int) -> None:
    async with planted(tmp_path, lease_seconds=1.5 if kills < 10 else 3.0) as plant:
        killer = Killer(plant)
        process = await plant.start()
        killer.begin(process, None)
        wanted = [str(number) for number in range(lines)]
        reference = await whole_batch(process, wanted)
        killer.begin(process, points(seed, kills)[0])
        made = await create(process.openai(), (line(one) for one in wanted))
        committed: set[str] = set()
        for number, following in enumerate([*points(seed, kills)[1:], None]):
            await killer.struck()
            assert not committed & killer.life.keys(), f"life {number}: finished lines ran again"
            if max(killer.life.values()) > 1:  # a busy machine may keep a process from renewing in time
                assert "lease was" in process.output(), f"life {number}: a line ran twice in one process"
            assert committed <= plant.committed(), f"life {number}: results are lost"
            committed = plant.committed()
            process = plant.launch()
            killer.begin(process, following)
            await process.ready()
        done = await ended(process.openai(), made)
        assert not committed & killer.life.keys()
        assert done.status == "completed"
        assert done.request_counts is not None
        assert done.request_counts.model_dump() == {"completed": lines, "failed": 0, "total": lines}
        found = [one["custom_id"] for one in await rows(process.openai(), done.output_file_id)]
        assert found == wanted
        assert await content(process, done) == reference
        await only_files_are_stored(plant, process)


async def whole_batch(process: Running, wanted: list[str]) -> bytes:
    """The same batch undisturbed."""
    client = process.openai()
    return await content(process, await ended(client, await create(client, (line(one) for one in wanted))))


async def content(process: Running, batch: Batch) -> bytes:
    """The output, without what names the batch."""
    assert batch.output_file_id is not None
    found: bytes = (await process.openai().files.content(batch.output_file_id)).content
    return found.replace(batch.id.removeprefix("batch_").encode(), b"")


async def only_files_are_stored(plant: Plant, process: Running) -> None:
    """After a sweep, each blob belongs to a file that is listed."""
    await plant.sweep()
    stored = {row[0] for row in plant.rows("SELECT blob FROM file_segments")}
    assert plant.stored() == stored
    listed = {one.id async for one in process.openai().files.list()}
    assert listed == {row[0] for row in plant.rows("SELECT DISTINCT file_id FROM file_segments")}
