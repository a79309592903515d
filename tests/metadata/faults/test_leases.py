"""Processes that wake up late, cancels that race or get lost, and clocks that jump."""

import asyncio
import signal
import time
from pathlib import Path

import openai
import pytest
from openai.types import Batch

from aibrix_extproc.core.access.signed_caller import LIFE_SECONDS, verify
from aibrix_extproc.core.openai.contract.headers import ON_BEHALF
from tests.metadata.conftest import KEY
from tests.metadata.engine import Engine
from tests.metadata.faults.child import Crash, Options
from tests.metadata.faults.rig import SHORT_LEASE_SECONDS, Plant, planted
from tests.metadata.test_batches import batch_until, create, ended, line, rows
from tests.waiting import until

pytestmark = pytest.mark.slow
DAY = 86_400.0


async def test_zombie_writes_nothing_and_its_requests_stop(tmp_path: Path) -> None:
    """Frozen with requests under way, it wakes when another process has ended its batch; then it works again."""
    wanted = [str(number) for number in range(300)]
    async with planted(tmp_path) as plant:
        own = Engine()  # of the zombie alone
        frozen = await plant.start(gateway_url=await own.start(), lease_seconds=SHORT_LEASE_SECONDS)
        try:
            own.hold.clear()
            made = await create(frozen.openai(), (line(one) for one in wanted))
            await until(lambda: own.running > 0, "requests run")
            await frozen.freeze(tmp_path / "ledger.sqlite")
            await own.catch_up()
            asked = own.asked.copy()
            other = await plant.start()
            done = await ended(other.openai(), made)
            before = plant.rows("SELECT * FROM batches"), plant.rows("SELECT * FROM file_segments"), plant.stored()
            frozen.send(signal.SIGCONT)
            await until(lambda: own.running == 0, "the zombie has broken off its requests")
            assert own.asked == asked
            again = await frozen.openai().batches.retrieve(made.id)
            assert again == done
            after = plant.rows("SELECT * FROM batches"), plant.rows("SELECT * FROM file_segments"), plant.stored()
            assert after == before
            assert [one["custom_id"] for one in await rows(other.openai(), done.output_file_id)] == wanted
            assert set(plant.engine.asked.values()) == {1}
            await other.kill()
            own.hold.set()
            assert (await ended(frozen.openai(), await create(frozen.openai(), [line("later")]))).status == "completed"
        finally:
            await plant.stop()
            await own.stop()


async def test_cancel_is_heard_by_another_process_though_the_one_that_took_it_died_at_once(tmp_path: Path) -> None:
    async with planted(tmp_path) as plant:
        plant.engine.hold.clear()
        await plant.start(role="worker", lease_seconds=5.0)  # it is renewed each second
        crash = Crash("aibrix_extproc.adapters.ledger.batches:BatchLedger.cancel")
        doomed = await plant.start(Options(crash), role="api")
        made = await create(doomed.openai(), (line(str(number)) for number in range(300)))
        await until(lambda: plant.engine.running > 0, "requests run")
        with pytest.raises(openai.APIConnectionError):
            await doomed.openai().batches.cancel(made.id)
        assert await doomed.gone() < 0
        client = (await plant.start(role="api")).openai()
        await leases_are_renewed(plant)
        plant.engine.hold.set()
        done = await ended(client, made)
        assert done.status == "cancelled"
        found = await rows(client, done.output_file_id) + await rows(client, done.error_file_id)
        assert sorted(int(one["custom_id"]) for one in found) == list(range(300))
        assert plant.engine.asked.total() < 300


async def test_cancel_that_races_the_end_wins_or_loses_once(tmp_path: Path) -> None:
    """Cancels at every stage of a batch: who was told 200 finds it cancelled, who was told 409 finds it ended."""
    async with planted(tmp_path, lease_seconds=SHORT_LEASE_SECONDS) as plant:
        client = (await plant.start()).openai()
        began = time.monotonic()
        await ended(client, await create(client, [line("a")]))
        whole = time.monotonic() - began  # on this machine
        plant.engine.hold.clear()
        made = await create(client, [line("a")])
        await until(lambda: plant.engine.running > 0, "the line is with the engine")
        assert (await client.batches.cancel(made.id)).status in {"cancelling", "cancelled"}
        plant.engine.hold.set()
        assert (await ended(client, made)).status == "cancelled"
        for number in range(22):
            made = await create(client, [line("a")])
            await asyncio.sleep(number / 20 * whole)  # no synchronisation: the moment is what varies
            await cancel_wins_or_loses(client, made)
        made = await create(client, [line("a")])
        done = await ended(client, made)
        assert done.status == "completed"
        assert await cancel_wins_or_loses(client, made) == done


async def cancel_wins_or_loses(client: openai.AsyncOpenAI, made: Batch) -> Batch:
    """The batch at its end, which fits to what the cancel was told."""
    try:
        told = (await client.batches.cancel(made.id)).status
    except openai.ConflictError:
        told = "conflict"
    done = await ended(client, made)
    assert done.status == ("completed" if told == "conflict" else "cancelled"), told
    assert await client.batches.retrieve(made.id) == done
    return done


async def leases_are_renewed(plant: Plant) -> None:
    """Twice: a worker hears of a cancel when it renews, and renews again only after it has heard."""
    held = "SELECT batch_id, number, lease_until FROM batch_shards WHERE lease_until > 0 AND NOT done"
    for _ in range(2):
        before = set(plant.rows(held))
        assert before
        await until(lambda: before.isdisjoint(plant.rows(held)), "all leases are renewed")  # noqa: B023


@pytest.mark.parametrize("jump", [DAY * 2, -DAY * 2], ids=["forward", "back"])
async def test_clock_of_a_worker_that_jumps_changes_nothing(tmp_path: Path, jump: float) -> None:
    """Neither is its batch expired, nor a file or a blob swept, nor its lease lost, nor its signature refused."""
    async with planted(tmp_path, sweep_seconds=0.1) as plant:
        process = await plant.start(Options(jump_seconds=jump))
        client = process.openai()
        life = {"anchor": "created_at", "seconds": 3600}
        kept = await client.files.create(file=("a.txt", b"x"), purpose="user_data", extra_body={"expires_after": life})
        plant.engine.hold.clear()
        made = await create(client, (line(str(number)) for number in range(300)))
        await until(lambda: plant.engine.running > 0, "requests run")
        process.send(signal.SIGUSR1)
        plant.engine.hold.set()
        plant.engine.hold.clear()
        await batch_until(client, made, lambda one: one.request_counts is not None and one.request_counts.completed > 0)
        plant.engine.hold.set()
        done = await ended(client, made)
        assert done.status == "completed"
        assert done.completed_at is not None
        assert done.created_at <= done.completed_at < done.created_at + 60
        assert set(plant.engine.asked.values()) == {1}
        assert (await client.files.content(kept.id)).content == b"x"
        signatures_are_in_time(plant)


def signatures_are_in_time(plant: Plant) -> None:
    """The engine stands for the gateway, which refuses a statement whose time its own clock says is over."""
    for headers in plant.engine.headers:
        given = {name.lower(): value for name, value in headers.items()}[ON_BEHALF]
        found = verify((KEY,), ON_BEHALF, given, "chat_completion", time.time() - 60)
        assert found is not None
        assert abs(found.wall_expires_at - LIFE_SECONDS - time.time()) < 60
