"""How a stream ended, from what Envoy's access log tells."""

import pytest

from aibrix_extproc.core.exchange.records import ExchangeRecord, StreamEnd


def record(terminal: bool, *flags: str, error: str = "") -> ExchangeRecord:
    return ExchangeRecord("r", stream="data_done", status=200, flags=flags, terminal=terminal, error=error)


@pytest.mark.parametrize(
    ("told", "end"),
    [
        (record(True), StreamEnd.COMPLETE),
        (record(True, "downstream_connection_termination"), StreamEnd.COMPLETE),
        (record(True, error="upstream_error"), StreamEnd.ERROR),
        (record(False, error="upstream_error"), StreamEnd.ERROR),
        (record(False), StreamEnd.CUT),
        (record(False, "upstream_remote_reset"), StreamEnd.CUT),
        (record(False, "upstream_protocol_error"), StreamEnd.CUT),
        (record(False, "stream_idle_timeout"), StreamEnd.CUT),
        (record(False, "downstream_connection_termination"), StreamEnd.LEFT),
        (record(False, "downstream_remote_reset"), StreamEnd.LEFT),
    ],
)
def test_stream_end_is_what_the_report_and_the_flags_tell(told: ExchangeRecord, end: StreamEnd) -> None:
    assert told.stream_end is end


@pytest.mark.parametrize("status", [0, 400, 503])
def test_an_answer_that_is_no_stream_has_no_stream_end(status: int) -> None:
    assert ExchangeRecord("r", stream="data_done", status=status).stream_end is None
    assert ExchangeRecord("r", status=200, terminal=None).stream_end is None
