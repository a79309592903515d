"""Runs the sources of endpoints and keeps their statuses."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from aibrix_extproc.adapters.fleetfile.entry import Entry
from aibrix_extproc.adapters.fleetfile.parse import parse_flag
from aibrix_extproc.adapters.fleetfile.source import FlagSource, FleetFile
from aibrix_extproc.app.listening import StartError
from aibrix_extproc.app.parts.part import Meters, Part
from aibrix_extproc.app.ports import EndpointSource
from aibrix_extproc.config_files.errors import SourceError
from aibrix_extproc.config_files.file import OnStatus, SourceStatus
from aibrix_extproc.core.fleet.reduce import SourceChange
from aibrix_extproc.core.fleet.roles import EngineRole
from aibrix_extproc.settings import FleetSettings

logger = logging.getLogger(__name__)


class SourceStatuses:
    """The latest status of each source."""

    def __init__(self) -> None:
        self.by_name: dict[str, SourceStatus] = {}
        self._once_good: set[str] = set()

    def take(self, status: SourceStatus) -> None:
        """A source has a new status."""
        self.by_name[status.source] = status
        if status.ok:
            self._once_good.add(status.source)
            logger.info("fleet source is good", extra={"source": status.source})
            return
        kept = status.source in self._once_good
        then = "is broken, the last good fleet stays in use" if kept else "cannot be used, not ready until it can"
        logger.error(f"fleet source {then}", extra={"source": status.source, "error": status.error})


class Sources(Part):
    """Feeds the changes of all sources to `emit`."""

    name = "sources"

    def __init__(
        self,
        sources: Sequence[EndpointSource],
        statuses: SourceStatuses,
        emit: Callable[[SourceChange], None],
    ) -> None:
        self._sources = sources
        self._statuses = statuses.by_name
        self._emit = emit

    @property
    def degraded(self) -> bool:
        """Whether a source is broken."""
        return not all(status.ok for status in self._statuses.values())

    async def run(self) -> None:
        """Run the sources until cancelled."""
        async with asyncio.TaskGroup() as group:
            for source in self._sources:
                group.create_task(source.run(self._emit), name=source.name)

    def report(self) -> Mapping[str, object]:
        """The status of each source."""
        return {
            name: {"ok": status.ok, "error": status.error, "since": status.wall_since}
            for name, status in self._statuses.items()
        }

    def register(self, metrics: Meters) -> None:
        """Whether each source is good."""
        metrics.gauges(
            "aibrix_extproc_fleet_source_ok", lambda: [(name, one.ok) for name, one in self._statuses.items()]
        )


def configured_sources(fleet: FleetSettings, on_status: OnStatus) -> list[EndpointSource]:
    """The fleet file and the endpoints of the settings. Raises StartError for an endpoint that cannot be one."""
    found: list[EndpointSource] = []
    if fleet.file is not None:
        found.append(FleetFile(fleet.file, on_status))
    if fleet.endpoints or fleet.prefill_endpoints:
        try:
            found.append(FlagSource(_given(fleet), on_status))
        except SourceError as error:
            raise StartError(str(error)) from error
    return found


def _given(fleet: FleetSettings) -> list[Entry]:
    prefill = partial(parse_flag, flag="--prefill-endpoint", role=EngineRole.PREFILL)
    return [*map(parse_flag, fleet.endpoints), *map(prefill, fleet.prefill_endpoints)]
