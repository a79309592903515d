"""Reads the metrics pages of engines, again and again, and hands the readings over.

An engine with requests of ours is read every 0.2 s, an idle one every 2 s; all engines together not more often than a
budget allows, in which case the one whose turn is longest overdue comes first. An engine has one request for its page
at most. One that answers slowly is asked less often, so that reading it takes at most a tenth of the time: vLLM makes
the page in the process that serves requests.
"""

import asyncio
import random
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, Protocol

import aiohttp
from msgspec.structs import replace

from aibrix_extproc.adapters.engine.client import EngineClient, engine_session
from aibrix_extproc.adapters.engine.errors import EngineError, EngineRefusal
from aibrix_extproc.core.fleet.gauges import EngineGauges
from aibrix_extproc.core.fleet.kubernetes.podspec import MAX_PORT, METRIC_PORT
from aibrix_extproc.core.fleet.metrics_page import read_page
from aibrix_extproc.core.fleet.model import Endpoint, Health

PAGE: Final = "/metrics"
PAGES: Final = {"trtllm": "/prometheus/metrics"}  # by engine, where it is another one
_PORT: Final = re.compile("[0-9]{1,5}")
NOT_KNOWN: Final = "its metrics page has no series of an engine that is known"


@dataclass(frozen=True, slots=True)
class GaugePace:
    """Times between readings of pages."""

    busy_seconds: float = 0.2
    idle_seconds: float = 2.0
    reads_per_second: float = 160.0  # of all engines together; about 8 % of a core
    beat_seconds: float = 0.05  # between two looks at whose turn it is
    timeout_seconds: float = 2.0
    longest_share: float = 0.1  # of the time that an engine may spend on its pages
    retry_seconds: float = 1.0  # after a failure; doubles
    longest_seconds: float = 60.0  # between two attempts at a page that fails
    jitter: float = 0.25  # part of an idle engine's wait, taken off it, so that engines do not fall into step


DEFAULT_PACE: Final = GaugePace()
RARE_PACE: Final = GaugePace(busy_seconds=30.0, idle_seconds=30.0)  # for what hardly changes: sizes of caches
_PICKABLE: Final = frozenset({Health.READY, Health.SILENT})
_FIRST_SECONDS: Final = 1.0  # within which the page of a new engine is read
_MOST_FAILURES: Final = 16  # that count, so that the wait cannot overflow


class Readings(Protocol):
    """The consumer of readings."""

    def read(self, endpoint: Endpoint, reading: EngineGauges) -> None:
        """Keep the reading of an engine."""

    def failed(self, endpoint: Endpoint, reason: str) -> None:
        """An engine's page could not be read; `reason` is for the operator."""


@dataclass(slots=True, eq=False)
class _Reader:
    """One engine and when its turn is."""

    endpoint: Endpoint
    client: EngineClient
    path: str
    due: float  # while it is idle
    due_busy: float  # while it has requests of ours
    last: float = 0.0  # when its page was last asked for
    failures: int = 0
    is_reading: bool = False

    def is_of(self, endpoint: Endpoint) -> bool:
        """Whether the endpoint of this identity has the same page as before."""
        mine = self.endpoint
        return (mine.address, mine.api_key, mine.engine, mine.labels) == (
            endpoint.address, endpoint.api_key, endpoint.engine, endpoint.labels,
        )  # fmt: skip


class GaugeScraper:
    """Reads the pages of the endpoints that may be picked. `own`: our exchanges at an endpoint, by identity."""

    def __init__(
        self,
        endpoints: Callable[[], Collection[Endpoint]],
        own: Callable[[str], int],
        readings: Readings,
        *,
        pace: GaugePace = DEFAULT_PACE,
        clock: Callable[[], float],
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._endpoints = endpoints
        self._own = own
        self._readings = readings
        self._pace = pace
        self._clock = clock
        self._dice = dice
        self._readers: dict[str, _Reader] = {}
        self._listed: Collection[Endpoint] = ()
        self._allowance = 0.0  # reads that the budget allows now

    def use(self, pace: GaugePace) -> None:
        """Read at another pace, and every engine soon."""
        self._pace = pace
        for reader in self._readers.values():
            reader.due = reader.due_busy = min(reader.due, self._soon())

    async def run(self) -> None:
        """Read until cancelled."""
        async with engine_session() as session, asyncio.TaskGroup() as group:
            while True:
                self._follow(session)
                for reader in self._chosen(self._clock()):
                    reader.is_reading = True
                    group.create_task(self._read(reader))
                await asyncio.sleep(self._pace.beat_seconds)

    def _follow(self, session: aiohttp.ClientSession) -> None:
        """Readers for the endpoints that may be picked; those of the others end."""
        listed = self._endpoints()
        if listed is self._listed:
            return
        self._listed = listed
        before, self._readers = self._readers, {}
        for endpoint in listed:
            if endpoint.health not in _PICKABLE:
                continue
            reader = before.get(endpoint.identity)
            if reader is None or not reader.is_of(endpoint):
                due = self._soon()
                path = PAGES.get(endpoint.engine, PAGE)
                reader = _Reader(endpoint, self._client(session, endpoint), path, due, due)
            reader.endpoint = endpoint
            self._readers[endpoint.identity] = reader

    def _soon(self) -> float:
        """The time of a page's first reading, spread so that not all engines are read at once."""
        return self._clock() + min(self._pace.busy_seconds, _FIRST_SECONDS) * self._dice()

    def _client(self, session: aiohttp.ClientSession, endpoint: Endpoint) -> EngineClient:
        """Of the engine's port, or of the one that a label names; that one does not get the engine's key."""
        host, _, port = endpoint.address.rpartition(":")
        named = endpoint.labels.get(METRIC_PORT, port)
        if named == port or not _PORT.fullmatch(named) or not 0 < int(named) <= MAX_PORT:
            return EngineClient(session, endpoint.address, endpoint.api_key, self._pace.timeout_seconds)
        return EngineClient(session, f"{host}:{named}", None, self._pace.timeout_seconds)

    def _chosen(self, now: float) -> list[_Reader]:
        """The readers whose turn it is, those that wait longest first, as far as the budget goes."""
        of_beat = self._pace.reads_per_second * self._pace.beat_seconds
        self._allowance = min(self._allowance + of_beat, 2 * of_beat)
        due = [one for one in self._readers.values() if not one.is_reading and now >= self._due(one)]
        due.sort(key=lambda one: one.last)
        chosen = due[: int(self._allowance)]
        self._allowance -= len(chosen)
        return chosen

    def _due(self, reader: _Reader) -> float:
        return reader.due_busy if self._own(reader.endpoint.identity) else reader.due

    async def _read(self, reader: _Reader) -> None:
        endpoint, pace = reader.endpoint, self._pace
        reader.last = started = self._clock()
        own = self._own(endpoint.identity)
        try:
            text = await reader.client.read_text(reader.path)
            now = self._clock()
            names = (one.id for one in endpoint.models)
            # What has ended meanwhile may be on the page, and would be taken for others'.
            reading = read_page(text, now, max(own, self._own(endpoint.identity)), names)
            if reading is None:
                raise EngineRefusal(NOT_KNOWN)
            reading = replace(reading, asked_at=started)
        except EngineError as error:
            wait = min(pace.retry_seconds * 2.0**reader.failures, pace.longest_seconds)
            reader.failures = min(reader.failures + 1, _MOST_FAILURES)
            reader.due = reader.due_busy = self._clock() + wait
            self._readings.failed(endpoint, str(error))
        else:
            reader.failures = 0
            rest = (now - started) / pace.longest_share
            reader.due_busy = now + max(pace.busy_seconds, rest)
            reader.due = now + max(pace.idle_seconds * (1 - pace.jitter * self._dice()), rest)
            if self._readers.get(endpoint.identity) is reader:  # else it has left meanwhile
                self._readings.read(endpoint, reading)
        finally:
            reader.is_reading = False
