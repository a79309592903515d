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

from aibrix_extproc.adapters.accesslog._generated.als_pb2 import (
    AccessLogCommon,
    HTTPAccessLogEntry,
    StreamAccessLogsMessage,
)
from aibrix_extproc.adapters.accesslog.report import REPORT_KEY, REPORT_NAMESPACE, Report, ReportError, read_report
from aibrix_extproc.core.exchange.records import Charge, ExchangeRecord, StreamEnd, stream_end, unmetered
from aibrix_extproc.core.openai.contract.headers import NOTES_NAMESPACE

_TEXTS: Final = ("request_id", "operation", "model", "caller", "stream", "seal")
_FLAG: Final = "hide_usage"
_AS_SEALED: Final = len(_TEXTS) + 1
METHOD: Final = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"


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
            except ReportError:
                self._on_malformed()

    def _take_entry(self, entry: HTTPAccessLogEntry) -> None:
        notes = _notes(entry)
        if not notes or not self._admit(notes):
            return
        charge = read_charge(entry, notes)
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
    fields = metadata[NOTES_NAMESPACE].fields
    if len(fields) == _AS_SEALED and _FLAG in fields and fields[_FLAG].WhichOneof("kind") == "bool_value":
        # Asked for by name they take half the time; a missing one counts as empty.
        return {name: fields[name].string_value for name in _TEXTS} | {_FLAG: fields[_FLAG].bool_value}
    found: dict[str, str | bool] = {}
    for name, value in fields.items():
        # Of the kinds one is set at most, so a text that is not empty needs no question which.
        found[name] = value.string_value or (value.bool_value if value.WhichOneof("kind") == "bool_value" else "")
    return found


def read_charge(entry: HTTPAccessLogEntry, notes: Mapping[str, str | bool]) -> Charge | None:
    """What an exchange cost; None if it is none that we placed."""
    if not _text(notes, "request_id"):
        return None
    # Looking a missing key up adds an empty value to the map. Nobody reads the message after us, so nothing is asked
    # before.
    metadata = entry.common_properties.metadata.filter_metadata
    report = read_report(metadata[REPORT_NAMESPACE].fields[REPORT_KEY].string_value)
    operation, end = _text(notes, "operation"), _stream_end(entry, report)
    is_metered = report.usage is not None or report.audio_seconds > 0
    return Charge(
        operation,
        _text(notes, "model"),
        _text(notes, "caller"),
        entry.request.request_body_bytes,
        entry.response.response_body_bytes,
        report.usage,
        end,
        report.audio_seconds,
        "" if is_metered else unmetered(operation, entry.response.response_code.value, report.unmetered, end),
    )


def _text(notes: Mapping[str, str | bool], name: str) -> str:
    value = notes.get(name, "")
    return value if isinstance(value, str) else ""


def read_entry(entry: HTTPAccessLogEntry) -> ExchangeRecord | None:
    """The record behind an entry; None if it is no exchange that we placed."""
    common = entry.common_properties
    notes = common.metadata.filter_metadata[NOTES_NAMESPACE].fields
    request_id = notes["request_id"].string_value
    if not request_id:
        return None
    report = read_report(common.metadata.filter_metadata[REPORT_NAMESPACE].fields[REPORT_KEY].string_value)
    address = common.upstream_remote_address.socket_address
    host = f"[{address.address}]" if ":" in address.address else address.address
    return ExchangeRecord(
        request_id=request_id,
        operation=notes["operation"].string_value,
        model=notes["model"].string_value,
        caller=notes["caller"].string_value,
        stream=notes["stream"].string_value if report.terminal is not None else "",
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
        usage=report.usage,
        audio_seconds=report.audio_seconds,
        terminal=report.terminal,
        error=report.error,
    )


def _flags(common: AccessLogCommon) -> Iterator[str]:
    return (field.name for field, value in common.response_flags.ListFields() if value is True)


def _stream_end(entry: HTTPAccessLogEntry, report: Report) -> StreamEnd | None:
    if report.terminal is None or not 200 <= entry.response.response_code.value < 300:
        return None
    return stream_end(_flags(entry.common_properties), terminal=report.terminal, error=report.error)


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
