"""Simulated engines are put to sleep and woken by policies; models of a group never hold the GPU at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from msgspec.structs import replace as changed

from aibrix_extproc.adapters.ledger.database import Database
from aibrix_extproc.adapters.ledger.gateways import GatewayLedger
from aibrix_extproc.core.control.feed import Report
from aibrix_extproc.core.control.rows import Section
from aibrix_extproc.core.fleet.cordons import Cordon
from aibrix_extproc.core.fleet.model import Health
from aibrix_extproc.core.operations.policies import ModelPolicy
from tests.metadata.working_engines import Engines
from tests.waiting import until

WAKING = ModelPolicy("llama", wake_on_request=True)


@pytest.fixture
async def engines(tmp_path: Path) -> AsyncIterator[Engines]:
    database = Database(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    await database.open()
    async with Engines(database) as found:
        yield found
    await database.close()


async def put(engines: Engines, *policies: ModelPolicy) -> None:
    for one in policies:
        await engines.control.put(Section.MODELS, one.model, one)


@asynccontextmanager
async def reporting(engines: Engines, usage: dict[str, tuple[int, float]]) -> AsyncIterator[None]:
    """A gateway that applies every version at once and has this to do."""
    ledger = GatewayLedger(engines.database)

    async def report() -> None:
        while True:
            _, version = await engines.control.version()
            await ledger.store({"gateway": Report(version, {}, dict(usage))})
            await asyncio.sleep(0.05)

    task = asyncio.create_task(report())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def asleep(engines: Engines, *names: str) -> bool:
    return {name for name, one in engines.running.items() if one.engine.halted} == set(names)


async def put_to_sleep(engines: Engines, *names: str) -> None:
    for name in names:
        await engines.running[name].engine.sleep("wait", 1)
    await until(
        lambda: sum(one.health is Health.ASLEEP for one in engines.snapshot.endpoints) >= len(names), "they sleep"
    )


async def test_many_demands_wake_an_engine_once(engines: Engines) -> None:
    await engines.start("a", "b")
    await put_to_sleep(engines, "a", "b")
    await put(engines, WAKING)
    async with engines.working():
        await asyncio.gather(*(engines.demands.ask("llama") for _ in range(20)))
        await until(lambda: asleep(engines, "b"), "one wakes")

        async def met() -> bool:
            return not await engines.demands.open(30.0)

        await until(met, "the demand is met")
        assert engines.calls("a", "/wake_up") == 1
        assert engines.calls("b", "/wake_up") == 0
        assert (await engines.demands.ask("llama")).took_seconds is not None


async def test_a_model_without_a_policy_is_left_asleep(engines: Engines) -> None:
    await engines.start("a")
    await put_to_sleep(engines, "a")
    async with engines.working() as part:
        await engines.demands.ask("llama")
        await until(lambda: part.holds, "it works")
        await asyncio.sleep(0.6)
        assert asleep(engines, "a")


async def test_an_idle_engine_is_cordoned_and_put_to_sleep_and_one_stays_awake(engines: Engines) -> None:
    await engines.start("a", "b")
    usage = {"a": (0, 100.0), "b": (0, 100.0)}
    await put(engines, ModelPolicy("llama", idle_sleep_seconds=60, min_awake=1))
    async with reporting(engines, usage), engines.working():
        await until(lambda: asleep(engines, "b"), "one sleeps")
        rows, _ = await engines.control.page(Section.CORDONS, None, 10)
        assert [row.id for row in rows] == ["sleep:b"]

        async def free() -> bool:
            return not (await engines.control.page(Section.CORDONS, None, 10))[0]

        await until(free, "the cordon goes away")
        assert asleep(engines, "b")


async def test_an_engine_in_use_is_not_put_to_sleep(engines: Engines) -> None:
    await engines.start("a")
    await put(engines, ModelPolicy("llama", idle_sleep_seconds=60))
    async with reporting(engines, {"a": (1, 0.0)}), engines.working() as part:
        await until(lambda: part.holds, "it works")
        await asyncio.sleep(0.6)
        assert asleep(engines)


async def test_a_group_is_swapped_and_never_both_awake(engines: Engines) -> None:
    await engines.start("a")
    await engines.start("q", model="qwen")
    await put_to_sleep(engines, "q")
    group = ModelPolicy("llama", wake_on_request=True, group="gpu0", hold_seconds=0.0, drain_seconds=5.0)
    await put(engines, group, changed(group, model="qwen"))
    both: list[bool] = []

    async def watch() -> None:
        while True:
            both.append(not any(one.engine.halted for one in engines.running.values()))
            await asyncio.sleep(0.002)

    watching = asyncio.create_task(watch())
    async with reporting(engines, {"a": (0, 1.0), "q": (0, 1.0)}), engines.working():
        for model, sleeps in (("qwen", "a"), ("llama", "q"), ("qwen", "a")):
            await engines.demands.ask(model)
            await until(partial(asleep, engines, sleeps), f"{model} is awake")
    watching.cancel()
    assert not any(both)
    assert engines.calls("a", "/sleep") == 2
    assert engines.calls("q", "/wake_up") == 2


async def test_the_next_process_removes_the_cordons_of_a_dead_one(engines: Engines) -> None:
    await engines.start("a")
    await engines.control.put(Section.CORDONS, "sleep:a", Cordon(identity="a"))
    await engines.control.put(Section.CORDONS, "by-hand", Cordon(identity="a"))
    async with engines.working():

        async def only_by_hand() -> bool:
            rows, _ = await engines.control.page(Section.CORDONS, None, 10)
            return [row.id for row in rows] == ["by-hand"]

        await until(only_by_hand, "the cordon of the dead one is gone")
