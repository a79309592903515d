"""Decodes what Envoy's access logger sends and hands each exchange of ours over: what it cost, or all that is told.

Every look into a message costs 0.1 us, so an entry is read in full only for those who want the record. Nothing that
arrives here raises: a message that cannot be parsed and an entry that makes no sense are counted. An entry without our
notes is skipped: it is somebody else's, or its request was never placed. An entry with notes is read only if `admit`
accepts them, because whoever reaches the port may send entries.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Value

from aibrix_extproc.adapters.accesslog._generated.als_pb2 import (
    AccessLogCommon,
    HTTPAccessLogEntry,
    StreamAccessLogsMessage,
)
from aibrix_extproc.core.exchange.records import Charge, ExchangeRecord, StreamEnd, stream_end
from aibrix_extproc.core.openai.headers import NOTES_NAMESPACE
from aibrix_extproc.core.openai.usage import Usage

METHOD: Final = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"
REPORT: Final = "aibrix.usage"  # the stream filter's
_KINDS: Final = frozenset({"string_value", "bool_value"})  # of notes
_MAX_COUNT: Final = 2**53


class EntryError(ValueError):
    """An entry that makes no sense."""


class AccessLogReceiver:
    """Fits a method that takes messages and answers nothing."""

    def __init__(
        self,
        on_charge: Callable[[Charge], None],
        on_malformed: Callable[[], None],
        on_record: Callable[[ExchangeRecord], None] | None = None,
        *,
        admit: Callable[[dict[str, str | bool]], bool],
    ) -> None:
        self._admit = admit
        self._on_charge = on_charge
        self._on_malformed = on_malformed
        self._on_record = on_record

    def take(self, payload: bytes) -> None:
        """One message: a batch of entries."""
        try:
            message = StreamAccessLogsMessage.FromString(payload)
        except DecodeError:
            self._on_malformed()
            return
        for entry in message.http_logs.log_entry:
            try:
                self._take_entry(entry)
            except EntryError:
                self._on_malformed()

    def _take_entry(self, entry: HTTPAccessLogEntry) -> None:
        notes = _notes(entry)
        if not notes or not self._admit(notes):
            return
        charge = read_charge(entry)
        if charge is None:
            return
        self._on_charge(charge)
        if self._on_record is not None:
            record = read_entry(entry)
            if record is not None:
                self._on_record(record)


def _notes(entry: HTTPAccessLogEntry) -> dict[str, str | bool]:
    """Our notes as plain values; empty if there are none. A value of a kind that no note has becomes an empty text."""
    metadata = entry.common_properties.metadata.filter_metadata
    if NOTES_NAMESPACE not in metadata:
        return {}
    found: dict[str, str | bool] = {}
    for name, value in metadata[NOTES_NAMESPACE].fields.items():
        kind = value.WhichOneof("kind")
        found[name] = getattr(value, kind) if kind in _KINDS else ""
    return found


def read_charge(entry: HTTPAccessLogEntry) -> Charge | None:
    """What an exchange cost; None if it is none that we placed."""
    # Looking a missing key up adds an empty value to the map. Nobody reads the message after us, so nothing is asked
    # before.
    metadata = entry.common_properties.metadata.filter_metadata
    notes = metadata[NOTES_NAMESPACE].fields
    if not notes["request_id"].string_value:
        return None
    report = metadata[REPORT].fields
    return Charge(
        notes["operation"].string_value,
        notes["model"].string_value,
        notes["caller"].string_value,
        entry.request.request_body_bytes,
        entry.response.response_body_bytes,
        _usage(report),
        _stream_end(entry, report) if notes["stream"].string_value else None,
    )


def read_entry(entry: HTTPAccessLogEntry) -> ExchangeRecord | None:
    """The record behind an entry; None if it is no exchange that we placed."""
    common = entry.common_properties
    notes = common.metadata.filter_metadata[NOTES_NAMESPACE].fields
    request_id = notes["request_id"].string_value
    if not request_id:
        return None
    report = common.metadata.filter_metadata[REPORT].fields
    address = common.upstream_remote_address.socket_address
    host = f"[{address.address}]" if ":" in address.address else address.address
    return ExchangeRecord(
        request_id=request_id,
        operation=notes["operation"].string_value,
        model=notes["model"].string_value,
        caller=notes["caller"].string_value,
        stream=notes["stream"].string_value,
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
        terminal=_terminal(report),
        error=report["error"].string_value,
    )


def _terminal(report: Mapping[str, Value]) -> bool | None:
    return report["terminal"].bool_value if "terminal" in report else None


def _flags(common: AccessLogCommon) -> Iterator[str]:
    return (field.name for field, value in common.response_flags.ListFields() if value is True)


def _stream_end(entry: HTTPAccessLogEntry, report: Mapping[str, Value]) -> StreamEnd | None:
    if not 200 <= entry.response.response_code.value < 300:
        return None
    return stream_end(_flags(entry.common_properties), terminal=_terminal(report), error=report["error"].string_value)


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
    counts = [_count(report[name]) if name in report else 0 for name in Usage.__struct_fields__]
    return Usage(*counts) if any(counts) or any(name in report for name in Usage.__struct_fields__) else None


def _count(value: Value) -> int:
    number = value.number_value
    if not 0 <= number <= _MAX_COUNT or (number == 0 and value.WhichOneof("kind") != "number_value"):
        raise EntryError("a count that is none")
    return int(number)
