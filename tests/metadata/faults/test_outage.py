"""PostgreSQL goes away below a batch: for a moment, in the middle of a crash, and for longer than leases last."""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.metadata.faults.rig import planted
from tests.metadata.postgres import Server, server
from tests.metadata.test_batches import batch_until, create, ended, line, rows
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.postgres]
WANTED = [str(number) for number in range(600)]


@pytest.fixture
def database() -> Iterator[Server]:
    with server() as made:
        yield made


@pytest.mark.parametrize(
    ("how", "seconds", "lease"),
    [(signal.SIGINT, 0.0, 15.0), (signal.SIGQUIT, 0.0, 15.0), (signal.SIGQUIT, 20.0, 5.0)],
    ids=["restart", "crash", "outage of 20 s"],
)
async def test_batch_survives_its_database(
    tmp_path: Path, database: Server, how: signal.Signals, seconds: float, lease: float
) -> None:
    async with planted(tmp_path, database=database.url, lease_seconds=lease) as plant:
        worker = await plant.start(role="worker")
        api = await plant.start(role="api")
        client = api.openai()
        plant.engine.hold.clear()
        made = await create(client, (line(one) for one in WANTED))
        await until(lambda: plant.engine.running > 0, "requests run")
        database.stop(how)
        plant.engine.hold.set()
        try:
            with pytest.raises(openai.InternalServerError) as caught:
                await client.batches.retrieve(made.id)
            assert (caught.value.status_code, caught.value.code) == (503, "storage_unavailable")
            await until(lambda: "not stored" in worker.output(), worker.output)
            await asyncio.sleep(seconds)  # the outage itself
        finally:
            database.start()
        await batch_until(api.openai(retries=5), made, lambda one: one.status == "completed")
        done = await ended(client, made)
        assert [one["custom_id"] for one in await rows(client, done.output_file_id)] == WANTED
        most = 1 if seconds < lease else 2  # a lease that cannot be renewed ends, and what was not stored runs again
        assert max(plant.engine.asked.values()) <= most
        assert "Traceback" not in worker.output() + api.output()
