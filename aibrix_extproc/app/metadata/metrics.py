"""Metrics of the metadata service."""

from collections.abc import Sequence
from typing import Final

from aibrix_extproc.adapters.telemetry.registry import MetricRegistry, Rows
from aibrix_extproc.app.metadata.gates import Gates
from aibrix_extproc.app.metadata.state_check import StorageCheck

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 300.0)

# name: kind, labels, help; for the reference page and the registry
METADATA_METRICS: Final[Rows] = {
    "aibrix_metadata_requests_total": ("counter", ("operation", "status"), "Answers of the API."),
    "aibrix_metadata_request_seconds": ("histogram", ("operation",), "From a request's head to the end of its answer."),
    "aibrix_metadata_storage_ok": ("gauge", ("part",), "1 if the database, or the blob store, can be used."),
    "aibrix_metadata_endpoints": ("gauge", ("health",), "Endpoints of the fleet, for engine operations."),
    "aibrix_metadata_fleet_known": ("gauge", (), "1 once every source has listed and every engine was asked."),
    "aibrix_metadata_batch_running": ("gauge", ("model",), "Requests of batches that run now, in this process."),
    "aibrix_metadata_batch_limit": ("gauge", ("model",), "How many requests of batches may run at once."),
    "aibrix_metadata_quota_used": (
        "gauge",
        ("bound",),
        "Share of `metadata.max_files`, `max_stored_bytes`, `max_pending_uploads` and `max_unfinished_batches` that the"
        " caller with the most has used, as of the last sweep.",
    ),
    "aibrix_metadata_usage_records_total": (
        "counter",
        ("result",),
        "Usage records from gateways: new, repeated, refused (too old, or of a wrong clock).",
    ),
}


class MetadataMetrics(MetricRegistry):
    """All metrics of a metadata service. Operations and statuses are bounded by tables."""

    def __init__(self, gates: Gates, storage: Sequence[StorageCheck]) -> None:
        super().__init__(METADATA_METRICS)
        self.gauges("aibrix_metadata_storage_ok", lambda: [(part.name, float(part.known)) for part in storage])
        self._requests = self._counters["aibrix_metadata_requests_total"]
        self._seconds = self.distribution("aibrix_metadata_request_seconds", _BUCKETS)
        self.gauges("aibrix_metadata_batch_running", lambda: [(name, gate.running) for name, gate in gates.items()])
        self.gauges("aibrix_metadata_batch_limit", lambda: [(name, int(gate.limit)) for name, gate in gates.items()])

    def counted_usage(self, result: str, records: int) -> None:
        """Count usage records that have come."""
        if records:
            self._counters["aibrix_metadata_usage_records_total"].add((result,), records)

    def answered(self, operation: str, status: int, seconds: float) -> None:
        """Count one answer."""
        self._requests.add((operation, str(status)))
        self._seconds.of(operation).observe(seconds)
