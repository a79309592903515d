"""Reads what engines say at their metrics pages, once a strategy needs it."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from aibrix_extproc.adapters.engine.gauges import GaugeScraper
from aibrix_extproc.app.fleet_store import FleetStore
from aibrix_extproc.app.parts.part import Meters, Part
from aibrix_extproc.core.fleet.gauge_book import GaugeBook
from aibrix_extproc.core.fleet.gauges import STALE_SECONDS, EngineGauges
from aibrix_extproc.core.fleet.index import Pair
from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.fleet.model import Endpoint, Health

logger = logging.getLogger(__name__)


class Gauges(Part):
    """Keeps `book`. Off, and without any cost, until `start` is called."""

    name = "gauges"

    def __init__(self, store: FleetStore, load: LoadBook, book: GaugeBook, poll_soon: Callable[[str], None]) -> None:
        """`poll_soon` polls an engine before its turn: its page says that it sleeps."""
        self._store = store
        self._book = book
        self._poll_soon = poll_soon
        self._needed = asyncio.Event()
        self._failing: dict[str, tuple[str, str]] = {}  # by identity: name of the endpoint, reason
        self._count_failure: Callable[[], None] = lambda: None
        self._scraper = GaugeScraper(lambda: store.snapshot.endpoints, load.in_flight, self, clock=time.perf_counter)
        store.subscribe_changes(self._forget)

    def start(self) -> None:
        """Read from now on: a strategy needs it."""
        self._needed.set()

    async def run(self) -> None:
        """Wait until gauges are needed, then read them until cancelled."""
        await self._needed.wait()
        logger.info("reading metrics of engines")
        await self._scraper.run()

    def read(self, identity: str, reading: EngineGauges) -> None:
        """Keep a reading; an engine that sleeps by it is polled."""
        if self._failing.pop(identity, None) is not None:
            logger.info("metrics of an engine can be read again", extra={"endpoint": identity})
        self._book.take(identity, reading)
        if reading.asleep:
            self._poll_soon(identity)

    def failed(self, endpoint: Endpoint, reason: str) -> None:
        """Count a failure; each new reason of an engine is logged once."""
        self._count_failure()
        told = self._failing.get(endpoint.identity)
        if told is None or told[1] != reason:
            self._failing[endpoint.identity] = endpoint.name or endpoint.address, reason
            logger.warning(
                "cannot read metrics of an engine; our own counts stand in",
                extra={"endpoint": endpoint.identity, "reason": reason},
            )

    def _forget(self, pairs: tuple[Pair, ...], _: object) -> None:
        gone = [old.identity for old, new in pairs if old is not None and new is None]
        self._book.forget(gone)
        for identity in gone:
            self._failing.pop(identity, None)

    def report(self) -> Mapping[str, object] | None:
        """The engines that cannot be read, at most ten of them."""
        if not self._needed.is_set():
            return None
        failing = dict(list(self._failing.values())[:10])
        return {"ok": not self._failing, "failing": len(self._failing), "reasons": failing}

    def register(self, metrics: Meters) -> None:
        """How old readings are, and how many attempts failed."""
        metrics.gauges("aibrix_extproc_gauge_readings", self._states)
        self._count_failure = metrics.counter("aibrix_extproc_gauge_failures_total")

    def _states(self) -> list[tuple[str, float]]:
        if not self._needed.is_set():
            return []
        counts, now = {"fresh": 0, "stale": 0, "none": 0}, time.perf_counter()
        for one in self._store.snapshot.endpoints:
            if one.health is Health.READY:
                reading = self._book.of(one.identity)
                state = "none" if reading is None else "fresh" if now - reading.at < STALE_SECONDS else "stale"
                counts[state] += 1
        return list(counts.items())
