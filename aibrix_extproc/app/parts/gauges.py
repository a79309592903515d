"""Reads what engines say at their metrics pages, once a strategy needs it."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from aibrix_extproc.adapters.engine.gauges import DEFAULT_PACE, RARE_PACE, GaugeScraper
from aibrix_extproc.app.fleet_store import FleetStore
from aibrix_extproc.app.parts.part import Meters, Part
from aibrix_extproc.core.fleet.gauge_book import GaugeBook
from aibrix_extproc.core.fleet.gauges import STALE_SECONDS, EngineGauges
from aibrix_extproc.core.fleet.index import Pair
from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.fleet.model import Endpoint, Health

logger = logging.getLogger(__name__)


class Gauges(Part):
    """Keeps `book`, and tells the predictor of caches and queues. Off, and without any cost, until it is started."""

    name = "gauges"

    def __init__(
        self,
        store: FleetStore,
        load: LoadBook,
        book: GaugeBook,
        poll_soon: Callable[[str], None],
        cache_size: Callable[[str, float, str], None],
        told: Callable[[str, EngineGauges], None],
    ) -> None:
        """`poll_soon` polls an engine before its turn: its page says that it sleeps.

        `cache_size` is told an endpoint's identity, the tokens that its prefix cache holds, and its model; `told`,
        an endpoint's identity and all that it said.
        """
        self._store = store
        self._book = book
        self._poll_soon = poll_soon
        self._cache_size = cache_size
        self._told = told
        self._needed = asyncio.Event()
        self._is_often = False
        self._failing: dict[str, tuple[str, str]] = {}  # by identity: name of the endpoint, reason
        self._count_failure: Callable[[], None] = lambda: None
        self._scraper = GaugeScraper(
            lambda: store.snapshot.endpoints, load.in_flight, self, pace=RARE_PACE, clock=time.perf_counter
        )
        store.subscribe_changes(self._forget)

    def start(self) -> None:
        """Read often from now on: a strategy needs it."""
        self._is_often = True
        self._scraper.use(DEFAULT_PACE)
        self._needed.set()

    def start_rarely(self) -> None:
        """Read at least rarely from now on: a strategy needs the sizes of caches."""
        self._needed.set()

    async def run(self) -> None:
        """Wait until gauges are needed, then read them until cancelled."""
        await self._needed.wait()
        logger.info("reading metrics of engines")
        await self._scraper.run()

    def read(self, endpoint: Endpoint, reading: EngineGauges) -> None:
        """Keep a reading; an engine that sleeps by it is polled."""
        identity = endpoint.identity
        if self._failing.pop(identity, None) is not None:
            logger.info("metrics of an engine can be read again", extra={"endpoint": identity})
        self._book.take(identity, reading)
        self._tell_cache_size(endpoint, reading)
        self._told(identity, reading)
        if reading.asleep:
            self._poll_soon(identity)

    def _tell_cache_size(self, endpoint: Endpoint, reading: EngineGauges) -> None:
        model = endpoint.base_model
        if reading.keeps_prefixes is False:
            self._cache_size(endpoint.identity, 0.0, model)
        elif reading.cache_tokens is not None:
            self._cache_size(endpoint.identity, float(reading.cache_tokens), model)

    def failed(self, endpoint: Endpoint, reason: str) -> None:
        """Count a failure; each new reason of an engine is logged once."""
        self._count_failure()
        told = self._failing.get(endpoint.identity)
        if told is None or told[1] != reason:
            self._failing[endpoint.identity] = endpoint.name or endpoint.address, reason
            logger.warning(
                "cannot read metrics of an engine; what they would say is estimated",
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
        """Metrics of the readings' age and of failed attempts."""
        metrics.gauges("aibrix_extproc_gauge_readings", self._states)
        self._count_failure = metrics.counter("aibrix_extproc_gauge_failures_total")

    def _states(self) -> list[tuple[str, float]]:
        if not self._is_often:
            return []
        counts, now = {"fresh": 0, "stale": 0, "none": 0}, time.perf_counter()
        for one in self._store.snapshot.endpoints:
            if one.health is Health.READY:
                reading = self._book.of(one.identity)
                state = "none" if reading is None else "fresh" if now - reading.at < STALE_SECONDS else "stale"
                counts[state] += 1
        return list(counts.items())
