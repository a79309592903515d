"""Decodes what Envoy's access logger sends and hands each exchange of ours over: what it cost, or all that is told.

Every look into a message costs 0.1 us, so an entry is read in full only for those who want the record. Nothing that
arrives here raises: a message that cannot be parsed and an entry that makes no sense are counted. An entry without our
notes is skipped: it is somebody else's, or its request was never placed. Of the notes only the sealed text counts, and
only if `admit` accepts it, because whoever reaches the port may send entries.
"""

from collections.abc import Callable
from itertools import repeat
from typing import Final

from google.protobuf.message import DecodeError

from aibrix_extproc.adapters.accesslog._generated.als_pb2 import (
    ChargeEntry,
    ChargeMessage,
    HTTPAccessLogEntry,
    ResponseFlags,
    StreamAccessLogsMessage,
)
from aibrix_extproc.adapters.accesslog.entry import names_of, read_entry
from aibrix_extproc.adapters.accesslog.metadata_text import TextIn
from aibrix_extproc.adapters.accesslog.report import REPORT_KEY, REPORT_NAMESPACE, Report, ReportError, read_report
from aibrix_extproc.core.access.seals import Placed
from aibrix_extproc.core.exchange.records import Charge, ExchangeRecord, StreamEnd, stream_end, unmetered
from aibrix_extproc.core.openai.contract.headers import NOTES_NAMESPACE, SEALED

METHOD: Final = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"
_sealed_text: Final = TextIn(SEALED)
_report_text: Final = TextIn(REPORT_KEY)


class AccessLogReceiver:
    """Fits a method that takes messages and answers nothing."""

    def __init__(
        self,
        on_charge: Callable[[Charge], None],
        on_malformed: Callable[[], None],
        on_record: Callable[[ExchangeRecord], None] | None = None,
        *,
        admit: Callable[[bytes], Placed | None],
    ) -> None:
        self._admit = admit
        self._on_charge = on_charge
        self._on_malformed = on_malformed
        self._on_record = on_record

    def take(self, payload: bytes) -> None:
        """One message: a batch of entries."""
        try:
            entries = ChargeMessage.FromString(payload).http_logs.log_entry
            wholes = None if self._on_record is None else StreamAccessLogsMessage.FromString(payload)
        except DecodeError:
            self._on_malformed()
            return
        for entry, whole in zip(entries, repeat(None) if wholes is None else wholes.http_logs.log_entry, strict=False):
            try:
                self._take_entry(entry, whole)
            except (ReportError, DecodeError):
                self._on_malformed()

    def _take_entry(self, entry: ChargeEntry, whole: HTTPAccessLogEntry | None) -> None:
        common = entry.common_properties
        metadata = common.metadata.filter_metadata
        notes = metadata.get(NOTES_NAMESPACE)
        if not notes:
            return
        placed = self._admit(_sealed_text(notes))
        if placed is None:
            return
        told = metadata.get(REPORT_NAMESPACE)
        report = read_report(_report_text(told) if told else b"")
        self._on_charge(_charge(entry, placed, report))
        if self._on_record is not None and whole is not None:
            self._on_record(read_entry(whole, placed, report))


def _charge(entry: ChargeEntry, placed: Placed, report: Report) -> Charge:
    """What an exchange cost."""
    response, usage, seconds = entry.response, report.usage, report.audio_seconds
    is_metered = usage is not None or seconds > 0
    end, why = None, ""
    if report.terminal is not None or not is_metered:
        status = response.response_code.value
        end = _stream_end(entry, status, report)
        why = "" if is_metered else unmetered(placed.operation, status, report.unmetered, end)
    return Charge(
        placed.operation,
        placed.model,
        placed.caller,
        entry.request.request_body_bytes,
        response.response_body_bytes,
        usage,
        end,
        seconds,
        why,
    )


def _stream_end(entry: ChargeEntry, status: int, report: Report) -> StreamEnd | None:
    if report.terminal is None or not 200 <= status < 300:
        return None
    flags = names_of(ResponseFlags.FromString(entry.common_properties.response_flags))
    return stream_end(flags, terminal=report.terminal, error=report.error)
