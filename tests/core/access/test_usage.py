"""Usage records: what a batch holds, and batches that no gateway sends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from aibrix_extproc.core.access.usage import (
    MAX_TEXT,
    RECORDS_AT_ONCE,
    UsageFormatError,
    UsageRecord,
    batch_of,
    encoded,
    records_in,
)
from aibrix_extproc.core.exchange.records import Charge, StreamEnd, Times
from aibrix_extproc.core.exchange.usage_records import usage_record
from aibrix_extproc.core.openai.wire.estimates import InputRatios
from aibrix_extproc.core.openai.wire.usage import Usage

TEXTS = st.text(st.characters(codec="utf-8"), max_size=MAX_TEXT)
COUNTS = st.integers(0, 2**53)
RECORDS = st.builds(
    UsageRecord, id=TEXTS, wall_at=COUNTS, request_id=TEXTS, caller=TEXTS, key_id=TEXTS, model=TEXTS, operation=TEXTS,
    status=st.integers(0, 999), finish=TEXTS, batch_id=TEXTS, input_tokens=COUNTS, output_tokens=COUNTS,
    audio_seconds=st.floats(0, 1e6), estimated=st.booleans(),
)  # fmt: skip


@given(st.lists(RECORDS, max_size=5))
def test_batch_holds_its_records(records: list[UsageRecord]) -> None:
    assert records_in(batch_of(map(encoded, records))) == records


@pytest.mark.parametrize(
    "batch",
    [
        b"{}", b"[", b"[1]", b"\n", b"\xff",
        b'["i",-1,"r","c","k","m","o",200,"",""]',
        b'["i",1,"r","c","k","m","o",1000,"",""]',
        b'["i",1,"r","c","k","m","o",200,"","",1e400]',
        b'["i",1,"r","c","k","%b","o",200,"",""]' % (b"m" * (MAX_TEXT + 1)),
        b"\n".join([b'["i",1,"r","c","k","m","o",200,"",""]'] * (RECORDS_AT_ONCE + 1)),
    ],
)  # fmt: skip
def test_batch_that_no_gateway_sends_is_refused(batch: bytes) -> None:
    with pytest.raises(UsageFormatError):
        records_in(batch)


def test_charge_of_a_stream_becomes_a_record() -> None:
    charge = Charge(
        request_id="r", operation="chat_completion", model="m", caller="me", exchange_id="0a-7", key_id="k_1",
        batch_id="batch_1", wall_placed_at=1_800_000_000, status=200, usage=Usage(9, 4, 13, 2, 1),
        end=StreamEnd.COMPLETE, times=Times(1.0, 0.0126, 1.5),
    )  # fmt: skip
    assert usage_record(charge, InputRatios()) == UsageRecord(
        id="0a-7", wall_at=1_800_000_000, request_id="r", caller="me", key_id="k_1", model="m",
        operation="chat_completion", status=200, finish="complete", batch_id="batch_1", input_tokens=9,
        cached_tokens=2, output_tokens=4, reasoning_tokens=1, duration_ms=1500, first_byte_ms=13,
    )  # fmt: skip


def test_stream_that_broke_off_is_estimated_by_what_the_model_has_reported() -> None:
    ratios = InputRatios()
    for _ in range(400):
        ratios.learn("m", 400, 50)
    left = Charge(
        request_id="r", operation="chat_completion", model="m", caller="me", status=200, bytes_in=800, events=21,
        unmetered="left", end=StreamEnd.LEFT,
    )  # fmt: skip
    record = usage_record(left, ratios)
    assert (record.input_tokens, record.output_tokens, record.estimated) == (100, 20, True)
    assert usage_record(replace(left, model="new"), ratios).input_tokens == 200


def test_answer_that_told_no_usage_although_it_is_whole_costs_nothing() -> None:
    charge = Charge(
        request_id="r", operation="chat_completion", model="m", caller="me", status=200, bytes_in=800,
        unmetered="no_usage",
    )  # fmt: skip
    record = usage_record(charge, InputRatios())
    assert (record.input_tokens, record.output_tokens, record.estimated) == (0, 0, False)


def test_answer_without_usage_is_marked_and_long_names_are_cut() -> None:
    charge = Charge(
        request_id="r", operation="chat_completion", model="m" * 300, caller="me", status=200, unmetered="left"
    )
    record = usage_record(charge, InputRatios())
    assert (record.estimated, len(record.model), record.duration_ms) == (True, MAX_TEXT, 0)
    assert records_in(encoded(record)) == [record]
