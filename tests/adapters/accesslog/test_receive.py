"""Entries of Envoy's access log, read into records; what makes no sense is counted."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.adapters.accesslog._generated.als_pb2 import HTTPAccessLogEntry, StreamAccessLogsMessage
from aibrix_extproc.adapters.accesslog.receive import AccessLogReceiver
from aibrix_extproc.adapters.accesslog.report import REPORT_KEY, REPORT_NAMESPACE
from aibrix_extproc.core.access.seals import SealedPlacement
from aibrix_extproc.core.exchange.records import Charge, ExchangeRecord, StreamEnd, Times
from aibrix_extproc.core.openai.contract.headers import EXTPROC_NAMESPACE, SEALED
from aibrix_extproc.core.openai.wire.usage import Usage


def everybody(text: bytes) -> SealedPlacement | None:
    """For tests of reading; whom a receiver admits is tested in tests/app/test_seals_part.py."""
    words = f"{text.decode(errors='replace')}||||".split("|")
    return SealedPlacement(0, 0, 0, *words[:5]) if text else None


def sealed(request_id: str = "r-1", operation: str = "", stream: str = "") -> dict[str, Any]:
    """DynamicMetadata that `everybody` takes."""
    return {"stream": stream, SEALED: f"{request_id}|{operation}|m|me|{stream}"}


class Collected:
    """Where charges and records go."""

    def __init__(self) -> None:
        self.charges: list[Charge] = []
        self.records: list[ExchangeRecord] = []
        self.malformed = 0
        self.receiver = AccessLogReceiver(
            self.charges.append, self._count, self.records.append, admit=everybody, timed=True
        )

    def _count(self) -> None:
        self.malformed += 1

    def take(self, *entries: HTTPAccessLogEntry) -> "Collected":
        self.receiver.take(message(*entries))
        return self


def message(*entries: HTTPAccessLogEntry) -> bytes:
    batch = StreamAccessLogsMessage()
    batch.http_logs.log_entry.extend(entries)
    return batch.SerializeToString()


def an_entry(notes: dict[str, Any] | None = None, report: dict[str, Any] | None = None) -> HTTPAccessLogEntry:
    entry = HTTPAccessLogEntry()
    metadata = entry.common_properties.metadata.filter_metadata
    metadata[EXTPROC_NAMESPACE].update(sealed() if notes is None else notes)
    if report is not None:
        words = (f"{name}={str(value).lower()}" for name, value in report.items())
        metadata[REPORT_NAMESPACE].update({REPORT_KEY: " ".join(words)})
    return entry


def test_entry_becomes_a_record_with_all_that_it_tells() -> None:
    report = {"input_tokens": 11, "output_tokens": 3, "total_tokens": 14, "cached_tokens": 8, "reasoning_tokens": 2,
              "audio_seconds": 2.5, "terminal": True, "error": "upstream_error"}  # fmt: skip
    entry = an_entry(sealed("r-1", "chat_completion", "data_done"), report)
    common = entry.common_properties
    common.start_time.FromMilliseconds(1_700_000_000_250)
    common.time_to_first_downstream_tx_byte.FromMilliseconds(20)
    common.duration.FromMilliseconds(1500)
    common.upstream_remote_address.socket_address.address = "10.0.0.1"
    common.upstream_remote_address.socket_address.port_value = 8000
    common.upstream_request_attempt_count = 2
    common.response_flags.upstream_remote_reset = True
    entry.request.request_body_bytes = 96
    entry.response.response_body_bytes = 1010
    entry.response.response_code.value = 200
    entry.response.response_code_details = "via_upstream"
    found = Collected().take(entry)
    assert found.charges == [
        Charge(
            request_id="r-1",
            operation="chat_completion",
            model="m",
            caller="me",
            exchange_id="0000000000000000-0",
            status=200,
            bytes_in=96,
            bytes_out=1010,
            usage=Usage(11, 3, 14, 8, 2),
            audio_seconds=2.5,
            end=StreamEnd.ERROR,
            error="upstream_error",
            times=Times(1_700_000_000.25, 0.02, 1.5),
        ),
    ]
    assert found.records == [
        ExchangeRecord(
            request_id="r-1",
            operation="chat_completion",
            model="m",
            caller="me",
            stream="data_done",
            status=200,
            details="via_upstream",
            flags=("upstream_remote_reset",),
            bytes_in=96,
            bytes_out=1010,
            wall_started_at=1_700_000_000.25,
            first_byte_seconds=0.02,
            total_seconds=1.5,
            upstream_address="10.0.0.1:8000",
            attempts=2,
            usage=Usage(11, 3, 14, 8, 2),
            audio_seconds=2.5,
            terminal=True,
            error="upstream_error",
        )
    ]


def test_what_envoy_does_not_tell_stays_empty() -> None:
    found = Collected().take(an_entry())
    assert found.charges == [
        Charge(
            request_id="r-1",
            operation="",
            model="m",
            caller="me",
            exchange_id="0000000000000000-0",
            status=0,
            times=Times(None, None, None),
        )
    ]
    assert found.records == [ExchangeRecord(request_id="r-1", model="m", caller="me")]


def test_who_wants_no_records_gets_the_charges_alone() -> None:
    charges: list[Charge] = []
    AccessLogReceiver(charges.append, lambda: None, admit=everybody).take(message(an_entry(), an_entry()))
    assert len(charges) == 2


@pytest.mark.parametrize("flag", ["", "upstream_remote_reset", "downstream_remote_reset"])
@pytest.mark.parametrize("terminal", [None, False, True])
@pytest.mark.parametrize("status", [0, 200, 503])
@pytest.mark.parametrize("stream", ["", "data_done"])
def test_charge_and_record_agree_on_the_end_of_a_stream(
    stream: str, status: int, terminal: bool | None, flag: str
) -> None:
    entry = an_entry(sealed(stream=stream), None if terminal is None else {"terminal": terminal})
    entry.response.response_code.value = status
    if flag:
        setattr(entry.common_properties.response_flags, flag, True)
    found = Collected().take(entry)
    assert found.charges[0].end is found.records[0].stream_end


def test_an_ipv6_address_is_written_with_brackets() -> None:
    entry = an_entry()
    address = entry.common_properties.upstream_remote_address.socket_address
    address.address, address.port_value = "fd00::1", 8000
    assert Collected().take(entry).records[0].upstream_address == "[fd00::1]:8000"


def test_total_time_may_come_by_its_older_name() -> None:
    entry = an_entry()
    entry.common_properties.time_to_last_downstream_tx_byte.FromMilliseconds(40)
    assert Collected().take(entry).records[0].total_seconds == 0.04


def test_an_entry_that_we_did_not_place_is_not_ours() -> None:
    found = Collected().take(HTTPAccessLogEntry(), an_entry({}), an_entry({SEALED: 5}), an_entry())
    assert [record.request_id for record in found.records] == ["r-1"]
    assert (len(found.charges), found.malformed) == (1, 0)


@pytest.mark.parametrize("count", [-1, float("nan"), float("inf"), 2**60, 1.5, "\u0663", "", "3=", True, None])
def test_a_count_that_is_none_spoils_its_entry_only(count: object) -> None:
    found = Collected().take(an_entry(report={"input_tokens": count}), an_entry(sealed("r-2")))
    assert [record.request_id for record in found.records] == ["r-2"]
    assert (len(found.charges), found.malformed) == (1, 1)


@pytest.mark.parametrize("seconds", ["-1", "nan", "inf", "1e99", "", "x"])
def test_seconds_that_are_none_spoil_their_entry_only(seconds: str) -> None:
    found = Collected().take(an_entry(report={"audio_seconds": seconds}), an_entry())
    assert (len(found.charges), found.malformed) == (1, 1)


@pytest.mark.parametrize(
    ("report", "status", "reason"),
    [({}, 200, "unseen"), ({"unmetered": "too_large"}, 200, "too_large"), ({"unmetered": "x" * 99}, 200, "unseen"),
     ({"terminal": True}, 200, "no_usage"), ({"terminal": False}, 200, "cut"), ({"error": "e"}, 404, ""),
     ({"terminal": False, "error": "e"}, 200, "error"), ({"input_tokens": 0}, 200, ""),
     ({"audio_seconds": 1}, 200, ""), ({"terminal": False, "output_tokens": 3}, 200, "")],
    ids=str,
)  # fmt: skip
def test_a_success_without_usage_says_why_and_how_large_it_was(
    report: dict[str, Any], status: int, reason: str
) -> None:
    entry = an_entry(sealed("r-1", "chat_completion"), report)
    entry.response.response_code.value = status
    entry.request.request_body_bytes, entry.response.response_body_bytes = 96, 1010
    charge = Collected().take(entry).charges[0]
    assert (charge.unmetered, charge.bytes_in, charge.bytes_out) == (reason, 96, 1010)


@pytest.mark.parametrize("operation", ["tokenize", "detokenize", "", "nonsense", "cancel_response"])
def test_where_no_usage_is_expected_none_is_missed(operation: str) -> None:
    entry = an_entry(sealed("r-1", operation), {"unmetered": "no_usage"})
    entry.response.response_code.value = 200
    assert Collected().take(entry).charges[0].unmetered == ""


def test_usage_may_be_told_in_part() -> None:
    assert Collected().take(an_entry(report={"output_tokens": 3})).records[0].usage == Usage(output_tokens=3)
    assert Collected().take(an_entry(report={"terminal": False})).records[0].usage is None


@pytest.mark.parametrize("payload", [b"\xff", b"\x12\x05abc", b"\x0f"], ids=repr)
def test_a_message_that_cannot_be_parsed_is_counted(payload: bytes) -> None:
    found = Collected()
    found.receiver.take(payload)
    assert (found.records, found.malformed) == ([], 1)


def test_a_message_without_entries_is_none() -> None:
    found = Collected()
    found.receiver.take(b"")  # also one of TCP entries
    assert (found.records, found.malformed) == ([], 0)


@given(st.binary(max_size=300), st.integers(0, 400), st.integers(0, 255))
def test_no_bytes_raise(noise: bytes, place: int, value: int) -> None:
    good = bytearray(message(an_entry(report={"input_tokens": 3, "terminal": True})))
    good[place % len(good)] = value
    for payload in (noise, bytes(good), bytes(good) + noise):
        Collected().receiver.take(payload)
