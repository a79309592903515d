"""All that an entry of Envoy's access log tells of an exchange, for those who want the record."""

from collections.abc import Iterator

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from aibrix_extproc.adapters.accesslog._generated.als_pb2 import AccessLogCommon, HTTPAccessLogEntry, ResponseFlags
from aibrix_extproc.adapters.accesslog.report import Report
from aibrix_extproc.core.access.seals import SealedPlacement
from aibrix_extproc.core.exchange.records import ExchangeRecord


def read_entry(entry: HTTPAccessLogEntry, placed: SealedPlacement, report: Report) -> ExchangeRecord:
    """The record behind the entry of an exchange."""
    common = entry.common_properties
    address = common.upstream_remote_address.socket_address
    host = f"[{address.address}]" if ":" in address.address else address.address
    return ExchangeRecord(
        request_id=placed.request_id,
        operation=placed.operation,
        model=placed.model,
        caller=placed.caller,
        stream=placed.stream if report.terminal is not None else "",
        status=entry.response.response_code.value,
        details=entry.response.response_code_details,
        flags=tuple(names_of(common.response_flags)),
        bytes_in=entry.request.request_body_bytes,
        bytes_out=entry.response.response_body_bytes,
        wall_started_at=_seconds(common, "start_time"),
        first_byte_seconds=_seconds(common, "time_to_first_downstream_tx_byte"),
        total_seconds=_seconds(common, "duration", "time_to_last_downstream_tx_byte"),
        upstream_address=f"{host}:{address.port_value}" if host else "",
        attempts=common.upstream_request_attempt_count,
        usage=report.usage,
        audio_seconds=report.audio_seconds,
        terminal=report.terminal,
        error=report.error,
    )


def names_of(flags: ResponseFlags) -> Iterator[str]:
    """The flags that are set."""
    return (field.name for field, value in flags.ListFields() if value is True)


def seconds_of(span: Duration | Timestamp) -> float:
    """As a number: of a span, or since the epoch."""
    return span.seconds + span.nanos / 1e9


def _seconds(common: AccessLogCommon, *names: str) -> float | None:
    """The first of these that is there."""
    return next((seconds_of(getattr(common, name)) for name in names if common.HasField(name)), None)
