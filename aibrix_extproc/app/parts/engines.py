"""Polls the engines of the fleet."""

import logging

from aibrix_extproc.adapters.engine.poller import EnginePoller
from aibrix_extproc.adapters.engine.watcher import PollPace, Traffic
from aibrix_extproc.app.fleet_store import FleetStore
from aibrix_extproc.app.parts.part import Meters, Part
from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.fleet.model import Health
from aibrix_extproc.settings import FleetSettings

logger = logging.getLogger(__name__)


class Engines(Part):
    """Known once every source has listed and every engine was asked."""

    name = "engines"

    def __init__(self, fleet: FleetSettings, store: FleetStore, traffic: Traffic, load: LoadBook) -> None:
        pace = PollPace(interval_seconds=fleet.poll_seconds, timeout_seconds=fleet.poll_timeout_seconds)
        self._poller = EnginePoller(lambda: store.askable, store.apply, pace=pace, traffic=traffic)
        store.subscribe_given(self._poller.wake)
        self._store = store
        self._load = load

    @property
    def known(self) -> bool:
        """Whether there is a fleet."""
        return self._store.known

    async def wait_known(self) -> None:
        """Wait for the first fleet."""
        snapshot = await self._store.wait_known()
        logger.info("fleet known", extra={"endpoints": len(snapshot.endpoints), "models": len(snapshot.models)})

    def poll_soon(self, identity: str) -> None:
        """Ask this engine before its turn."""
        self._poller.look_soon(identity)

    def renew(self, identity: str) -> None:
        """Ask this engine before its turn what it serves and whether it works: somebody has changed it."""
        self._poller.renew(identity)

    async def run(self) -> None:
        """Poll until cancelled."""
        await self._poller.run()

    def register(self, metrics: Meters) -> None:
        """The state of the fleet."""
        metrics.gauges("aibrix_extproc_in_flight", self._in_flight)
        metrics.gauges("aibrix_extproc_endpoints", self._endpoints)
        metrics.gauge("aibrix_extproc_fleet_known", lambda: self._store.known)

    def _in_flight(self) -> list[tuple[str, float]]:
        # A pod without an address yet has no series, and nothing in flight.
        return [
            (one.address, self._load.in_flight(one.identity)) for one in self._store.snapshot.endpoints if one.address
        ]

    def _endpoints(self) -> list[tuple[str, float]]:
        counts = dict.fromkeys(Health, 0)
        for one in self._store.snapshot.endpoints:
            counts[one.health] += 1
        return [(health.value, count) for health, count in counts.items()]
