"""Runs over simulated engines: their order, the death of their process between any two steps, an engine that hangs."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator

import pytest

from aibrix_extproc.adapters.engine.client import engine_session
from aibrix_extproc.adapters.engineops.client import EngineOps
from aibrix_extproc.adapters.ledger.database import Database
from aibrix_extproc.adapters.ledger.runs import RunLedger
from aibrix_extproc.app.metadata import run_worker
from aibrix_extproc.app.metadata.run_acts import RunActs
from aibrix_extproc.app.metadata.run_executor import RunExecutor
from aibrix_extproc.core.operations import runs
from aibrix_extproc.core.operations.aims import step_of
from aibrix_extproc.core.operations.records import RUN_ENDED, Ask, Order, Phase, Run, RunSpec, RunStatus, Step, Target
from aibrix_extproc.core.operations.runs import Act, Event
from aibrix_extproc.simulator.server import Simulator
from tests.metadata.engines import CORDON_SECONDS, Engines
from tests.waiting import until

NAP = (Ask("sleep", {"level": 1, "mode": "wait"}), Ask("wake_up"))
LEASE_SECONDS = 30.0  # an executor that stands still for a while keeps its run


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(runs, "SETTLE_LONGEST_SECONDS", 0.0)
    monkeypatch.setattr(run_worker, "TICK_SECONDS", 0.01)


@pytest.fixture
async def engines() -> AsyncIterator[Engines]:
    async with Simulator() as one, Simulator() as two, Simulator() as three:
        yield Engines((one, two, three))


@pytest.fixture
async def client() -> AsyncIterator[EngineOps]:
    async with engine_session() as session:
        yield EngineOps(session)


class DyingActs(RunActs):
    """Ends its process, as far as the test can see, before or after its n-th act."""

    lives = 10**6
    dies_after = False

    async def do(self, run_id: str, spec: RunSpec, step: Step, act: Act) -> Event | None:
        self.lives -= 1
        if self.lives <= 0 and not self.dies_after:
            await asyncio.Event().wait()
        event = await super().do(run_id, spec, step, act)
        if self.lives <= 0:
            await asyncio.Event().wait()
        return event


class Rig:
    """A ledger on SQLite with executors that tests start and end."""

    def __init__(self, database: Database, engines: Engines, client: EngineOps) -> None:
        self.ledger = RunLedger(database, "api", LEASE_SECONDS)
        self._database = database
        self._engines = engines
        self._client = client

    async def ask(self, *asks: Ask, **values: object) -> str:
        spec = RunSpec(asks, Target("sim-model"), **values)  # type: ignore[arg-type]
        steps = tuple(step_of(one) for one in self._engines.snapshot.endpoints)
        run = await self.ledger.add(Run(f"op_{os.urandom(4).hex()}", spec, steps, created_by="root"), None, "h")
        return run.id

    def executor(self, owner: str, acts: RunActs | None = None, *, lease_seconds: float = LEASE_SECONDS) -> RunExecutor:
        ledger = RunLedger(self._database, owner, lease_seconds)
        acts = acts or self._engines.acts(self._client)
        return RunExecutor(ledger, acts, self._database.clock, owner, lease_seconds, CORDON_SECONDS)

    def dying(self, lives: int, *, after: bool) -> DyingActs:
        whole = self._engines
        acts = DyingActs(whole, self._client, whole, whole.reports, whole.tell, CORDON_SECONDS)
        acts.lives, acts.dies_after = lives, after
        return acts

    async def ended(self, run_id: str) -> Run:
        async def has_ended() -> Run | None:
            run = await self.ledger.find(run_id)
            return run if run is not None and run.status in RUN_ENDED else None

        return await until(has_ended, run_id)


@pytest.fixture
async def rig(database: Database, engines: Engines, client: EngineOps) -> Rig:
    return Rig(database, engines, client)


async def run_to_its_end(rig: Rig, run_id: str) -> Run:
    task = asyncio.create_task(rig.executor("one").run())
    try:
        return await rig.ended(run_id)
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_ops_10_engines_sleep_and_wake_one_after_the_other(rig: Rig, engines: Engines) -> None:
    run = await run_to_its_end(rig, await rig.ask(*NAP))
    assert run.status is RunStatus.SUCCEEDED
    assert [step.phase for step in run.steps] == [Phase.DONE] * 3
    assert [step.answer.body for step in run.steps if step.answer] == ['{"status":"awake","tags":null}'] * 3
    assert (engines.cordons, engines.most_cordoned) == ({}, 1)
    assert not any(simulator.engine.halted for simulator in engines.simulators)
    texts = [note.text for note in await rig.ledger.history(run.id) if note.identity == "e1"]
    assert texts == [
        "draining", "cordoned", "drained; calling sleep (1 of 2)",
        'sleep answered 200 {"status":"sleeping","level":1}', "sleep verified; calling wake_up (2 of 2)",
        'wake_up answered 200 {"status":"awake","tags":null}', "done; its cordon ends", "done",
    ]  # fmt: skip


async def test_all_at_once_leaves_keep_available(rig: Rig, engines: Engines) -> None:
    run = await run_to_its_end(rig, await rig.ask(*NAP, order=Order.ALL))
    assert run.status is RunStatus.SUCCEEDED
    assert engines.most_cordoned == 2


async def test_an_endpoint_with_exchanges_is_not_called(rig: Rig, engines: Engines) -> None:
    engines.in_flight["e0"] = 1
    run_id = await rig.ask(*NAP)
    task = asyncio.create_task(rig.executor("one").run())
    try:

        async def drains() -> bool:
            run = await rig.ledger.find(run_id)
            return run is not None and "1 exchanges in flight" in run.steps[0].detail

        await until(drains)
        assert not engines.simulators[0].engine.halted
        engines.in_flight.clear()
        assert (await rig.ended(run_id)).status is RunStatus.SUCCEEDED
    finally:
        task.cancel()
        await asyncio.wait([task])


# A run at two endpoints has fourteen acts.
EVERY = [pytest.param(lives, after, marks=pytest.mark.faults) for after in (False, True) for lives in range(1, 15)]


@pytest.mark.parametrize(("lives", "after"), [(1, True), (3, False), (3, True), (6, True), *EVERY])
async def test_ops_12_the_death_of_its_process_ends_in_a_defined_state(
    rig: Rig, engines: Engines, lives: int, after: bool
) -> None:
    """The process dies before or after an act, and another one goes on."""
    engines.simulators = engines.simulators[:2]
    run_id = await rig.ask(*NAP)
    acts = rig.dying(lives, after=after)
    first = asyncio.create_task(rig.executor("first", acts, lease_seconds=3.0).run())
    await until(lambda: acts.lives <= 0)
    first.cancel()
    await asyncio.wait([first])
    run = await run_to_its_end(rig, run_id)
    assert run.status is RunStatus.SUCCEEDED
    assert engines.cordons == {}
    assert not any(simulator.engine.halted for simulator in engines.simulators)
    assert any("taken over" in note.text for note in await rig.ledger.history(run_id))


async def test_an_engine_that_hangs_is_given_up_and_the_others_are_left_alone(rig: Rig, engines: Engines) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        engines.replaced(0, f"127.0.0.1:{silent.getsockname()[1]}")
        engines.simulators = ()
        run_id = await rig.ask(*NAP, call_seconds=1.0, keep_available=0)
        run = await run_to_its_end(rig, run_id)
    assert run.status is RunStatus.FAILED
    assert run.steps[0].phase is Phase.FAILED
    assert "no answer within 1 s" in run.detail
    assert engines.cordons == {}


async def test_a_cancelled_run_leaves_the_endpoints_that_it_has_not_called(rig: Rig, engines: Engines) -> None:
    engines.in_flight["e0"] = 1
    run_id = await rig.ask(*NAP)
    executor = rig.executor("one")
    task = asyncio.create_task(executor.run())
    try:
        await until(lambda: engines.cordons)
        await rig.ledger.ask_cancel(run_id)
        executor.wake()
        run = await rig.ended(run_id)
    finally:
        task.cancel()
        await asyncio.wait([task])
    assert run.status is RunStatus.CANCELLED
    assert {step.phase for step in run.steps} == {Phase.CANCELLED}
    assert engines.cordons == {}
