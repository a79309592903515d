"""Keeps looking at every endpoint of the fleet, and tells what changed."""

import asyncio
import math
import random
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

import aiohttp

from aibrix_extproc.adapters.engine.client import EngineClient, engine_session
from aibrix_extproc.adapters.engine.probe import EngineProbe
from aibrix_extproc.adapters.engine.watcher import BEATS, PollPace, Target, Traffic, Watcher
from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.fleet.reduce import Observed

LOOKS_PER_BEAT: Final = 8  # of a large one has more beats: a hundred looks at once would hold every exchange up
RESTS_PER_SECOND: Final = 200  # questions for sleep or pause, over all engines
DEFAULT_PACE: Final = PollPace()


class NoTraffic:
    """The state of engines where no exchange reports on them."""

    def silence_seconds(self, address: str) -> float:
        """None has answered."""
        return math.inf

    def engine_asleep(self, identity: str, awake_at: float) -> None:
        """Nobody waits there."""


NO_TRAFFIC: Final = NoTraffic()


class EnginePoller:
    """One watcher per endpoint. Wire it as `store.subscribe_given(poller.wake)`."""

    def __init__(
        self,
        endpoints: Callable[[], Collection[Endpoint]],
        emit: Callable[[Observed], None],
        *,
        pace: PollPace = DEFAULT_PACE,
        traffic: Traffic = NO_TRAFFIC,
        clock: Callable[[], float] = time.perf_counter,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self.pace = pace
        self.slots = asyncio.Semaphore(pace.concurrency)
        self.patient_slots = asyncio.Semaphore(pace.concurrency)
        self._endpoints = endpoints
        self._emit = emit
        self._traffic = traffic
        self._clock = clock
        self._dice = dice
        self._woken = asyncio.Event()
        self._beats = BEATS
        self._watchers: dict[str, _Watch] = {}  # by identity

    def wake(self) -> None:
        """Looks for endpoints that have joined or left the fleet."""
        self._woken.set()

    def look_soon(self, identity: str) -> None:
        """Polls an engine now, because something went wrong with it."""
        watch = self._watchers.get(identity)
        if watch is not None:
            watch.watcher.look_soon()

    def renew(self, identity: str) -> None:
        """Polls an engine now for its models and its health, because it was changed."""
        watch = self._watchers.get(identity)
        if watch is not None:
            watch.watcher.renew()

    async def run(self) -> None:
        """Watch until cancelled."""
        watchers = self._watchers
        async with engine_session() as session, asyncio.TaskGroup() as group:
            while True:
                self._woken.clear()
                endpoints = {endpoint.identity: endpoint for endpoint in self._endpoints()}
                self._beats = beats_for(len(endpoints))
                for identity in watchers.keys() - endpoints.keys():
                    watchers.pop(identity).task.cancel()
                for identity, endpoint in endpoints.items():
                    watch = watchers.get(identity)
                    if watch is not None and watch.target.is_of(endpoint):
                        watch.target.give(endpoint.models)
                        continue
                    if watch is not None:
                        watch.task.cancel()
                    target = Target(identity, endpoint.address, endpoint.api_key, endpoint.models)
                    watcher = self._watcher(target, session)
                    watchers[identity] = _Watch(target, watcher, group.create_task(watcher.run()))
                await self._woken.wait()

    def _watcher(self, target: Target, session: aiohttp.ClientSession) -> Watcher:
        client = EngineClient(session, target.address, target.api_key, self.pace.timeout_seconds)
        probe = EngineProbe(client, target.identity, asyncio.get_running_loop().time)
        return Watcher(target, client, probe, self, self._emit, self._traffic, self._clock)

    def jittered(self, wait: float) -> float:
        """The wait, a little shorter."""
        return wait * (1 - self.pace.jitter * self._dice())

    def to_a_beat(self, wait: float) -> float:
        """The wait, to the next beat: looks that share a wake-up of the process cost half."""
        beat = self.pace.interval_seconds / self._beats
        if wait > self.pace.interval_seconds:  # steady engines are as few a second as the pace says
            beat = LOOKS_PER_BEAT / self.pace.looks_per_second
        now = asyncio.get_running_loop().time()
        return math.ceil((now + wait) / beat) * beat - now

    def steady_seconds(self) -> float:
        """Between two looks at an engine that has been well for long: longer in a large fleet."""
        return steady_seconds(self.pace, len(self._watchers))

    def rest_seconds(self) -> float:
        """Between two questions for sleep or pause: longer in a large fleet."""
        return max(self.pace.rest_seconds, len(self._watchers) / RESTS_PER_SECOND)


def steady_seconds(pace: PollPace, engines: int) -> float:
    """Between two looks at an engine that has been well for long, so that all of them together stay within the pace."""
    return max(pace.interval_seconds, min(engines / pace.looks_per_second, pace.longest_seconds))


def beats_for(endpoints: int) -> int:
    """Into how many beats an interval is divided, so that few looks fall on each."""
    return max(BEATS, math.ceil(endpoints / LOOKS_PER_BEAT))


@dataclass(frozen=True, slots=True)
class _Watch:
    """A watcher at work."""

    target: Target
    watcher: Watcher
    task: asyncio.Task[None]
