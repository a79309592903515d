"""Publishes the fleet as EndpointSlices while this replica leads.

Imported only where it is wanted: the client library is an extra.
"""

import logging
from collections.abc import Callable, Mapping

from aibrix_extproc.adapters.kube.publish import EndpointPublisher, Leader
from aibrix_extproc.app.fleet_store import FleetStore
from aibrix_extproc.app.parts.part import Meters, Part
from aibrix_extproc.config_files.file import SourceStatus
from aibrix_extproc.settings import KubernetesSettings

logger = logging.getLogger(__name__)


class Publishing(Part):
    """Raises SourceError if it is not known how to reach the cluster."""

    name = "publisher"
    ends_before_drain = True

    def __init__(self, settings: KubernetesSettings, store: FleetStore, leader: Leader) -> None:
        self._publisher = EndpointPublisher(
            settings, lambda: store.snapshot, self._on_status, leader=leader, on_error=self._on_error
        )
        self._count_error: Callable[[], None] | None = None
        self._ok = True
        store.subscribe(lambda _: self._publisher.wake())

    @property
    def degraded(self) -> bool:
        """Whether the slices cannot be written."""
        return not self._ok

    async def run(self) -> None:
        """Publish until cancelled; what is published then stays."""
        await self._publisher.run()

    def report(self) -> Mapping[str, object]:
        """The leader, and what is published."""
        return self._publisher.report()

    def register(self, metrics: Meters) -> None:
        """Metrics of leadership, of published endpoints and of failures."""
        publisher = self._publisher
        metrics.gauge("aibrix_extproc_publisher_leads", lambda: publisher.leads)
        metrics.gauge("aibrix_extproc_published_endpoints", lambda: publisher.published)
        metrics.gauge("aibrix_extproc_publisher_age_seconds", publisher.age_seconds)
        self._count_error = metrics.counter("aibrix_extproc_publisher_errors_total")

    def _on_error(self) -> None:
        if self._count_error is not None:
            self._count_error()

    def _on_status(self, status: SourceStatus) -> None:
        self._ok = status.ok
        if status.ok:
            logger.info("endpoints are published")
        else:
            logger.error("endpoints cannot be published, what is published stays", extra={"error": status.error})
