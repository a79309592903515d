"""The poller on a store over real HTTP, at a pace for tests."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from aibrix_extproc.adapters.engine.poller import NO_TRAFFIC, EnginePoller
from aibrix_extproc.adapters.engine.watcher import PollPace, Traffic
from aibrix_extproc.app.fleet_store import FleetStore
from aibrix_extproc.core.fleet.model import Endpoint, Health
from aibrix_extproc.core.fleet.reduce import Changed, Listed, Observed
from tests.fakes.engine import FakeEngine
from tests.waiting import until

PACE = PollPace(interval_seconds=0.04, retry_seconds=0.01, timeout_seconds=30.0)
IMPATIENT = replace(PACE, timeout_seconds=0.25)  # for tests of engines that do not answer
KEY = "sk-engine-secret"


class FakeTraffic:
    """What a test says of the exchanges with engines, and what it hears of them."""

    def __init__(self) -> None:
        self.silence = math.inf
        self.rested: list[tuple[str, float]] = []

    def silence_seconds(self, address: str) -> float:
        return self.silence

    def engine_asleep(self, identity: str, awake_at: float) -> None:
        self.rested.append((identity, awake_at))


class Rig:
    """A store, the poller on it, and everything that the poller told."""

    def __init__(self, pace: PollPace, traffic: Traffic) -> None:
        self.store = FleetStore(["test"])
        self.told: list[Observed] = []
        self.poller = EnginePoller(lambda: self.store.askable, self._tell, pace=pace, traffic=traffic, dice=lambda: 0.5)
        self.store.subscribe_given(self.poller.wake)

    def _tell(self, seen: Observed) -> None:
        self.told.append(seen)
        self.store.apply(seen)

    def add(self, engine: FakeEngine, api_key: str | None = None) -> None:
        self.store.apply(Changed("test", Endpoint(identity=engine.address, address=engine.address, api_key=api_key)))

    def endpoint(self, engine: FakeEngine) -> Endpoint:
        return next(one for one in self.store.snapshot.endpoints if one.identity == engine.address)

    async def becomes(self, engine: FakeEngine, health: Health) -> Endpoint:
        await until(lambda: self.endpoint(engine).health is health)
        return self.endpoint(engine)


@asynccontextmanager
async def polling(pace: PollPace = PACE, traffic: Traffic = NO_TRAFFIC) -> AsyncIterator[Rig]:
    rig = Rig(pace, traffic)
    rig.store.apply(Listed("test", ()))
    task = asyncio.ensure_future(rig.poller.run())
    try:
        yield rig
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
