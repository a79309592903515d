"""Decodes what Envoy's access logger sends and hands over each exchange of ours: what it cost, or the whole record.

Reading a field costs 0.1 us, so an entry is read in full only if an observer wants the record. Nothing that arrives
here raises: a message that cannot be parsed and an entry that makes no sense are counted. An entry without our dynamic
metadata is skipped: it is not ours, or its request was never placed. Only the sealed text in it counts, and only if
`admit` accepts it, because anybody who reaches the port can send entries.
"""

from collections.abc import Callable
from itertools import repeat
from typing import Final

from google.protobuf.message import DecodeError

from aibrix_extproc.adapters.accesslog._generated.als_pb2 import (
    ChargeCommon,
    ChargeEntry,
    ChargeMessage,
    HTTPAccessLogEntry,
    ResponseFlags,
    StreamAccessLogsMessage,
)
from aibrix_extproc.adapters.accesslog.entry import names_of, read_entry, seconds_of
from aibrix_extproc.adapters.accesslog.metadata_text import TextIn
from aibrix_extproc.adapters.accesslog.report import REPORT_KEY, REPORT_NAMESPACE, Report, ReportError, read_report
from aibrix_extproc.core.access.seals import SealedPlacement
from aibrix_extproc.core.exchange.records import Charge, ExchangeRecord, StreamEnd, Times, stream_end, unmetered
from aibrix_extproc.core.openai.contract.headers import EXTPROC_NAMESPACE, SEALED

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
        admit: Callable[[bytes], SealedPlacement | None],
        timed: bool = False,
    ) -> None:
        """`timed`: charges have their times, which takes 2 us each."""
        self._admit = admit
        self._on_charge = on_charge
        self._on_malformed = on_malformed
        self._on_record = on_record
        self._timed = timed

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
        ours = metadata.get(EXTPROC_NAMESPACE)
        if not ours:
            return
        placed = self._admit(_sealed_text(ours))
        if placed is None:
            return
        reported = metadata.get(REPORT_NAMESPACE)
        report = read_report(_report_text(reported) if reported else b"")
        self._on_charge(_charge(entry, placed, report, timed=self._timed))
        if self._on_record is not None and whole is not None:
            self._on_record(read_entry(whole, placed, report))


def _charge(entry: ChargeEntry, placed: SealedPlacement, report: Report, *, timed: bool) -> Charge:
    """The charge of an exchange."""
    response, usage, seconds = entry.response, report.usage, report.audio_seconds
    status = response.response_code.value
    is_metered = usage is not None or seconds > 0
    end = None if report.terminal is None else _stream_end(entry, status, report)
    return Charge(
        request_id=placed.request_id,
        operation=placed.operation,
        model=placed.model,
        caller=placed.caller,
        exchange_id=placed.exchange_id,
        key_id=placed.key_id,
        batch_id=placed.batch_id,
        response_id=placed.response_id,
        reservation=placed.reservation,
        wall_placed_at=placed.wall_at,
        status=status,
        bytes_in=entry.request.request_body_bytes,
        bytes_out=response.response_body_bytes,
        usage=usage,
        audio_seconds=seconds,
        events=_events(report, response.response_body_bytes) if usage is None and end is not None else 0,
        unmetered="" if is_metered else unmetered(placed.operation, status, report.unmetered, end),
        end=end,
        error=report.error,
        first_seconds=report.first_seconds,
        times=_times(entry.common_properties) if timed else None,
    )


def _events(report: Report, body_bytes: int) -> int:
    """The events of a stream that told no usage: their number when they were counted last, and more like these."""
    if not report.event_bytes:
        return 0
    return max(report.events, round(report.events * body_bytes / report.event_bytes))


def _times(common: ChargeCommon) -> Times:
    started, first, total = common.start_time, common.time_to_first_downstream_tx_byte, common.duration
    return Times(
        seconds_of(started) if common.HasField("start_time") else None,
        seconds_of(first) if common.HasField("time_to_first_downstream_tx_byte") else None,
        seconds_of(total) if common.HasField("duration") else None,
    )


def _stream_end(entry: ChargeEntry, status: int, report: Report) -> StreamEnd | None:
    if report.terminal is None or not 200 <= status < 300:
        return None
    flags = names_of(ResponseFlags.FromString(entry.common_properties.response_flags))
    return stream_end(flags, terminal=report.terminal, error=report.error)
