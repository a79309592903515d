"""The engines as the metadata service knows them: found by the gateway's own settings, polled the same way."""

import asyncio
from collections import Counter
from collections.abc import Mapping

from aibrix_extproc.adapters.engine.poller import NO_TRAFFIC
from aibrix_extproc.app.fleet_parts import fleet_parts, has_sources
from aibrix_extproc.app.parts.engines import Engines
from aibrix_extproc.app.parts.part import Meters, Part
from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.fleet.model import Health, Snapshot
from aibrix_extproc.settings import Settings


class EngineFleet(Part):
    """Runs the sources and the poller. The service serves files and batches without it, so it is always known."""

    name = "fleet"

    def __init__(self, settings: Settings) -> None:
        self.store, of_fleet = fleet_parts(settings, publishes=False)
        self.engines = Engines(settings.fleet, self.store, NO_TRAFFIC, LoadBook())
        self._parts: tuple[Part, ...] = (*of_fleet, self.engines)

    @property
    def snapshot(self) -> Snapshot:
        """The fleet as of now."""
        return self.store.snapshot

    @property
    def degraded(self) -> bool:
        """Whether a source is broken."""
        return any(part.degraded for part in self._parts)

    async def run(self) -> None:
        """Run all of it until cancelled."""
        async with asyncio.TaskGroup() as group:
            for part in self._parts:
                group.create_task(part.run(), name=part.name)

    def report(self) -> Mapping[str, object]:
        """Whether the fleet is known, how large it is, and the reports of its sources."""
        reports = {part.name: part.report() for part in self._parts}
        return {
            "known": self.store.known,
            "endpoints": len(self.snapshot.endpoints),
            **{name: report for name, report in reports.items() if report is not None},
        }

    def register(self, metrics: Meters) -> None:
        """Endpoints by their health."""
        metrics.gauges("aibrix_metadata_endpoints", self._endpoints)
        metrics.gauge("aibrix_metadata_fleet_known", lambda: self.store.known)

    def _endpoints(self) -> list[tuple[str, float]]:
        counts = Counter(one.health for one in self.snapshot.endpoints)
        return [(health.value, counts[health]) for health in Health]


def engine_fleet(settings: Settings) -> EngineFleet | None:
    """The fleet, if the settings name a source. Raises SourceError and StartError for one that cannot be used."""
    return EngineFleet(settings) if has_sources(settings) else None
