"""Decodes what Envoy's access logger sends and hands each exchange of ours over as a record.

Nothing that arrives here raises: a message that cannot be parsed and an entry that makes no sense are counted, and an
entry without our notes is somebody else's or one that was never placed.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Struct, Value

from aibrix_extproc.adapters.accesslog._generated.als_pb2 import (
    AccessLogCommon,
    HTTPAccessLogEntry,
    StreamAccessLogsMessage,
)
from aibrix_extproc.core.exchange.records import ExchangeRecord
from aibrix_extproc.core.openai.headers import NOTES_NAMESPACE
from aibrix_extproc.core.openai.usage import Usage

METHOD: Final = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"
REPORT: Final = "aibrix.usage"  # the stream filter's
_MAX_COUNT: Final = 2**53


class EntryError(ValueError):
    """An entry that makes no sense."""


class AccessLogReceiver:
    """Fits a method that takes messages and answers nothing."""

    def __init__(self, on_record: Callable[[ExchangeRecord], None], on_malformed: Callable[[], None]) -> None:
        self._on_record = on_record
        self._on_malformed = on_malformed

    def take(self, payload: bytes) -> None:
        """One message: a batch of entries."""
        try:
            message = StreamAccessLogsMessage.FromString(payload)
        except DecodeError:
            self._on_malformed()
            return
        for entry in message.http_logs.log_entry:
            try:
                record = read_entry(entry)
            except EntryError:
                self._on_malformed()
                continue
            if record is not None:
                self._on_record(record)


def read_entry(entry: HTTPAccessLogEntry) -> ExchangeRecord | None:
    """The record behind an entry; None if it is no exchange that we placed."""
    common = entry.common_properties
    notes = _fields(common.metadata.filter_metadata, NOTES_NAMESPACE)
    request_id = _text(notes, "request_id")
    if not request_id:
        return None
    report = _fields(common.metadata.filter_metadata, REPORT)
    address = common.upstream_remote_address.socket_address
    host = f"[{address.address}]" if ":" in address.address else address.address
    return ExchangeRecord(
        request_id=request_id,
        operation=_text(notes, "operation"),
        model=_text(notes, "model"),
        caller=_text(notes, "caller"),
        stream=_text(notes, "stream"),
        status=entry.response.response_code.value,
        details=entry.response.response_code_details,
        flags=tuple(_flags(common)),
        bytes_in=entry.request.request_body_bytes,
        bytes_out=entry.response.response_body_bytes,
        wall_started_at=_wall(common),
        first_byte_seconds=_seconds(common, "time_to_first_downstream_tx_byte"),
        total_seconds=_seconds(common, "duration", "time_to_last_downstream_tx_byte"),
        upstream_address=f"{host}:{address.port_value}" if host else "",
        attempts=common.upstream_request_attempt_count,
        usage=_usage(report),
        terminal=report["terminal"].bool_value if "terminal" in report else None,
        error=_text(report, "error"),
    )


def _fields(metadata: Mapping[str, Struct], namespace: str) -> Mapping[str, Value]:
    # Asked first: looking a missing key up in a protobuf map adds it.
    return metadata[namespace].fields if namespace in metadata else {}


def _text(fields: Mapping[str, Value], name: str) -> str:
    return fields[name].string_value if name in fields else ""


def _flags(common: AccessLogCommon) -> Iterator[str]:
    return (field.name for field, value in common.response_flags.ListFields() if value is True)


def _wall(common: AccessLogCommon) -> float | None:
    if not common.HasField("start_time"):
        return None
    return float(common.start_time.seconds) + common.start_time.nanos / 1e9


def _seconds(common: AccessLogCommon, *names: str) -> float | None:
    for name in names:
        if common.HasField(name):
            span: Duration = getattr(common, name)
            return float(span.seconds) + span.nanos / 1e9
    return None


def _usage(report: Mapping[str, Value]) -> Usage | None:
    counts = {name: _count(report[name]) for name in Usage.__slots__ if name in report}
    return Usage(**counts) if counts else None


def _count(value: Value) -> int:
    number = value.number_value
    if value.WhichOneof("kind") != "number_value" or not math.isfinite(number) or not 0 <= number <= _MAX_COUNT:
        raise EntryError("a count that is none")
    return int(number)
