"""Metrics of the metadata service."""

from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from aibrix_extproc.adapters.telemetry.tallies import Distribution, Tally
from aibrix_extproc.app.metadata.gates import Gates

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 300.0)

# name: kind, labels, help; for the reference page and the registry
METADATA_METRICS: Final[Mapping[str, tuple[str, tuple[str, ...], str]]] = {
    "aibrix_metadata_requests_total": ("counter", ("operation", "status"), "Answers of the API."),
    "aibrix_metadata_request_seconds": ("histogram", ("operation",), "From a request's head to the end of its answer."),
    "aibrix_metadata_batch_running": ("gauge", ("model",), "Requests of batches that run now, in this process."),
    "aibrix_metadata_batch_limit": ("gauge", ("model",), "How many requests of batches may run at once."),
}


class MetadataMetrics(Collector):
    """All metrics of one process in a registry of their own. Operations and statuses are bounded by tables."""

    def __init__(self, gates: Gates) -> None:
        self._gates = gates
        self._requests = Tally("aibrix_metadata_requests_total", *self._described("aibrix_metadata_requests_total"))
        name = "aibrix_metadata_request_seconds"
        self._seconds = Distribution(name, *self._described(name), _BUCKETS)
        self.registry = CollectorRegistry()
        for one in (self._requests, self._seconds, self):
            self.registry.register(one)

    def answered(self, operation: str, status: int, seconds: float) -> None:
        """Count one answer."""
        self._requests.add((operation, str(status)))
        self._seconds.of(operation).observe(seconds)

    def collect(self) -> Iterator[Metric]:
        """What is true at this moment."""
        for name, value in (("running", lambda gate: gate.running), ("limit", lambda gate: int(gate.limit))):
            full = f"aibrix_metadata_batch_{name}"
            text, labels = self._described(full)
            family = GaugeMetricFamily(full, text, labels=labels)
            for model, gate in self._gates.items():
                family.add_metric((model,), value(gate))
            yield family

    def exposition(self) -> bytes:
        """The page that Prometheus reads."""
        return generate_latest(self.registry)

    def _described(self, name: str) -> tuple[str, tuple[str, ...]]:
        _, labels, text = METADATA_METRICS[name]
        return text, labels
