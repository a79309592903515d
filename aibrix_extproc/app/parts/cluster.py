"""The Kubernetes cluster as a source of endpoints, its age and its warnings. `Sources` runs it.

Imported only where it is wanted: the client library is an extra.
"""

from collections.abc import Mapping
from itertools import islice
from typing import Final

from aibrix_extproc.adapters.kube.source import KubernetesSource
from aibrix_extproc.app.parts.part import Meters, Part
from aibrix_extproc.app.ports import ClusterSource
from aibrix_extproc.config_files.file import OnStatus
from aibrix_extproc.settings import KubernetesSettings

MAX_WARNINGS: Final = 100  # on the health page; the log has them all


class Cluster(Part):
    """Owns the source. Raises SourceError if it is not known how to reach the cluster."""

    name = "cluster"

    def __init__(self, settings: KubernetesSettings, on_status: OnStatus) -> None:
        self.source: ClusterSource = KubernetesSource(settings, on_status)

    def report(self) -> Mapping[str, object]:
        """The age of the fleet, and the objects that cannot be used."""
        warnings = self.source.warnings()
        return {
            "age_seconds": round(self.source.age_seconds(), 3),
            "unusable": len(warnings),
            "remarks": dict(islice(warnings.items(), MAX_WARNINGS)),
        }

    def register(self, metrics: Meters) -> None:
        """Age and unusable objects."""
        source = self.source
        metrics.gauge("aibrix_extproc_fleet_age_seconds", source.age_seconds, source=source.name)
        metrics.gauge("aibrix_extproc_fleet_unusable", lambda: len(source.warnings()), source=source.name)
