"""Keeps looking at every endpoint of the fleet, and tells what changed."""

import asyncio
import math
import random
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final

import aiohttp

from aibrix_extproc.adapters.engine.client import EngineClient, engine_session
from aibrix_extproc.adapters.engine.errors import EngineError, EngineTimeout
from aibrix_extproc.adapters.engine.probe import EngineProbe
from aibrix_extproc.core.fleet.model import Endpoint, Health, ServedModel
from aibrix_extproc.core.fleet.reduce import Observed

BEATS: Final = 10  # per interval, of a small fleet; more would wake the process more often
LOOKS_PER_BEAT: Final = 8  # of a large one has more beats: a hundred looks at once would hold every exchange up


@dataclass(frozen=True, slots=True)
class PollPace:
    """How often engines are asked, and how many at once."""

    interval_seconds: float = 2.0
    retry_seconds: float = 0.2  # the first retry of an engine that is not ready; grows to the interval
    retry_growth: float = 1.5
    timeout_seconds: float = 2.0  # for each request
    patience: int = 4  # looks that a slow engine may miss; one that refuses or resets is believed at once
    concurrency: int = 64
    jitter: float = 0.25  # part of the wait, taken off it, so that looks do not fall into step

    @property
    def news_seconds(self) -> float:
        """The longest until a ready engine that answers is asked again for what it serves: with every other look."""
        return 2 * self.interval_seconds * (1 + 1 / BEATS)


DEFAULT_PACE: Final = PollPace()


class EnginePoller:
    """One watcher per endpoint. Wire it as `store.subscribe(lambda _: poller.wake())`."""

    def __init__(
        self,
        endpoints: Callable[[], Collection[Endpoint]],
        emit: Callable[[Observed], None],
        *,
        pace: PollPace = DEFAULT_PACE,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._endpoints = endpoints
        self._emit = emit
        self._pace = pace
        self._dice = dice
        self._woken = asyncio.Event()
        self._slots = asyncio.Semaphore(pace.concurrency)
        self._beats = BEATS

    def wake(self) -> None:
        """Say that the fleet may have other endpoints now."""
        self._woken.set()

    async def run(self) -> None:
        """Watch until cancelled."""
        watchers: dict[str, tuple[_Target, asyncio.Task[None]]] = {}  # by identity
        async with engine_session() as session, asyncio.TaskGroup() as group:
            while True:
                self._woken.clear()
                endpoints = {endpoint.identity: endpoint for endpoint in self._endpoints()}
                self._beats = beats_for(len(endpoints))
                for identity in watchers.keys() - endpoints.keys():
                    watchers.pop(identity)[1].cancel()
                for identity, endpoint in endpoints.items():
                    watcher = watchers.get(identity)
                    if watcher is not None and watcher[0].is_of(endpoint):
                        watcher[0].give(endpoint.models)
                        continue
                    if watcher is not None:
                        watcher[1].cancel()
                    target = _Target(identity, endpoint.address, endpoint.api_key, endpoint.models)
                    watchers[identity] = target, group.create_task(self._watch(target, session))
                await self._woken.wait()

    async def _watch(self, target: "_Target", session: aiohttp.ClientSession) -> None:
        client = EngineClient(session, target.address, target.api_key, self._pace.timeout_seconds)
        probe = EngineProbe(client, target.identity, asyncio.get_running_loop().time)
        told: Observed | None = None
        missed = 0
        retry_seconds = self._pace.retry_seconds
        while True:
            was_ready = told is not None and told.health is Health.READY
            seen = await self._look(probe, may_doubt=was_ready and missed < self._pace.patience)
            missed = missed + 1 if seen is None else 0
            if seen is not None and (seen != told or (target.has_news and probe.listed)):
                target.has_news = target.has_news and not probe.listed
                self._emit(seen)
                told = seen
            if seen is not None and seen.health is Health.READY:
                retry_seconds = self._pace.retry_seconds
                await asyncio.sleep(self._to_a_beat(self._jittered(self._pace.interval_seconds)))
            else:
                wait = min(retry_seconds, self._pace.interval_seconds)
                retry_seconds = wait * self._pace.retry_growth
                await asyncio.sleep(self._jittered(wait))

    def _jittered(self, wait: float) -> float:
        return wait * (1 - self._pace.jitter * self._dice())

    def _to_a_beat(self, wait: float) -> float:
        """The wait, to the next beat: looks that share a wake-up of the process cost half."""
        beat = self._pace.interval_seconds / self._beats
        now = asyncio.get_running_loop().time()
        return math.ceil((now + wait) / beat) * beat - now

    async def _look(self, probe: EngineProbe, *, may_doubt: bool) -> Observed | None:
        """One look. None: a ready engine missed it, which a busy one may several times; the next look comes soon."""
        async with self._slots:
            try:
                return await probe.look()
            except EngineTimeout as error:
                return None if may_doubt else probe.failed(error)
            except EngineError as error:
                return probe.failed(error)


def beats_for(endpoints: int) -> int:
    """Into how many beats an interval is divided, so that few looks fall on each."""
    return max(BEATS, math.ceil(endpoints / LOOKS_PER_BEAT))


@dataclass(slots=True)
class _Target:
    """What of an endpoint makes a difference for asking it; a change of address or key starts anew."""

    identity: str
    address: str
    api_key: str | None = field(repr=False)
    given: tuple[ServedModel, ...]  # the names that its source gives
    has_news: bool = False  # whether they changed, so that the engine's next list is told even if it is the same

    def give(self, models: tuple[ServedModel, ...]) -> None:
        """Take in the names that the source gives now."""
        if models != self.given:
            self.given, self.has_news = models, True

    def is_of(self, endpoint: Endpoint) -> bool:
        """Whether the endpoint of this identity is asked as before."""
        return self.address == endpoint.address and self.api_key == endpoint.api_key
