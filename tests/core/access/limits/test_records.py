"""Records of limits and prices: what they may say, and what the errors say of the rest."""

import math

import msgspec
import pytest

from aibrix_extproc.core.access.limits.amounts import AMOUNTS, Reset
from aibrix_extproc.core.access.limits.records import (
    LimitFormatError,
    LimitRecord,
    PriceRecord,
    Record,
    parse_amounts,
    parse_record,
)


def test_a_record_of_a_team_with_soft_and_hard_limits() -> None:
    record = parse_record(
        {
            "id": "team-a",
            "caller": "team-a",
            "limits": {"requests_per_minute": 600, "tokens_per_day": None, "budget_per_month": 12.5},
            "soft_limits": {"budget_per_month": 10},
        }
    )
    assert record == LimitRecord(
        "team-a",
        caller="team-a",
        limits={"requests_per_minute": 600, "tokens_per_day": None, "budget_per_month": 12.5},
        soft_limits={"budget_per_month": 10},
    )


def test_a_record_without_an_id_has_one_from_what_it_is_for() -> None:
    found = parse_record({"caller": "*", "model": "llama", "limits": {"concurrent_requests": 2}})
    assert found.id == "caller=*,model=llama"
    assert parse_record({"limits": {"concurrent_requests": 2}}).id == "all"


def test_a_price_of_a_model() -> None:
    given = {"kind": "price", "model": "llama*", "prices": {"input_tokens": 0.5, "cached_input_tokens": 0}}
    assert parse_record(given) == PriceRecord("price:llama*", "llama*", {"input_tokens": 0.5, "cached_input_tokens": 0})


@pytest.mark.parametrize(
    "record",
    [
        LimitRecord("a", caller="a", key="*", limits={"requests_per_minute": 1}),
        PriceRecord("p", "llama", {"output_tokens": 1.5}),
    ],
    ids=["limit", "price"],
)
def test_a_record_survives_json_and_the_parser(record: Record) -> None:
    text = msgspec.json.encode(record)
    assert msgspec.json.decode(text, type=Record) == record
    assert parse_record(msgspec.json.decode(text)) == record


@pytest.mark.parametrize(
    ("amount", "part"),
    [
        (0, "more than 0, got 0"),
        (-1, "more than 0, got -1"),
        (math.nan, "finite number, got nan"),
        (math.inf, "finite number, got inf"),
        (10**30, "at most 1,000,000,000,000,000; for no limit write null"),
        (1.5, "whole number, got 1.5"),
        (True, "expected a number"),
        ("600", "expected a number"),
        ([], "expected a number"),
    ],
    ids=str,
)
def test_an_amount_that_makes_no_sense_is_refused_with_its_place(amount: object, part: str) -> None:
    with pytest.raises(LimitFormatError, match=part) as refused:
        parse_amounts({"requests_per_minute": amount})
    assert refused.value.field == "limits.requests_per_minute"


def test_money_and_audio_may_be_broken_and_not_smaller_than_their_unit() -> None:
    assert parse_amounts({"budget_per_day": 0.25, "audio_seconds_per_minute": 0.5}) == {
        "budget_per_day": 0.25,
        "audio_seconds_per_minute": 0.5,
    }
    with pytest.raises(LimitFormatError, match="at least 1e-06"):
        parse_amounts({"budget_per_day": 1e-9})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "expected an object"),
        ({"kind": "x"}, "kind: expected limit or price"),
        ({"id": "a"}, "limits: expected at least one limit"),
        ({"limits": 3}, "limits: expected an object"),
        ({"limits": {"request_per_minute": 3}}, "did you mean requests_per_minute?"),
        ({"limits": {"batch_enqueued_tokens": 3}}, "store it over the API"),
        ({"limits": {"concurrent_requests": 1}, "caller_share": 1}, "caller_share: expected a part between 0 and 1"),
        ({"limits": {"concurrent_requests": 1}, "caller_share": math.nan}, "finite number, got nan"),
        ({"limits": {"concurrent_requests": 1}, "caller_share": 0.5, "caller": "a"}, "leave caller and key out"),
        ({"limit": {}}, "limit: there is no such field; did you mean limits?"),
        ({"limits": {"concurrent_requests": 1}, "caller": ""}, "caller: expected a text"),
        ({"limits": {"concurrent_requests": 1}, "caller": "a\n"}, "caller: expected a text"),
        ({"limits": {"concurrent_requests": 1}, "model": 3}, "model: expected a text"),
        ({"limits": {"concurrent_requests": 1}, "note": "a" * 257}, "note: expected a text of at most 256"),
        ({"kind": "price", "prices": {"input_tokens": 1}}, "model: expected the name"),
        ({"kind": "price", "model": "a"}, "prices: expected at least one price"),
        ({"kind": "price", "model": "a", "prices": {"input": 1}}, "prices.input: there is no such price"),
        ({"kind": "price", "model": "a", "prices": {"input_tokens": -1}}, "prices.input_tokens: expected a price"),
        ({"kind": "price", "model": "a", "prices": {"input_tokens": math.nan}}, "finite number, got nan"),
    ],
    ids=str,
)
def test_a_record_that_makes_no_sense_is_refused_by_name(data: object, message: str) -> None:
    with pytest.raises(LimitFormatError) as refused:
        parse_record(data)
    assert message in str(refused.value)


def test_every_amount_that_fills_has_a_period() -> None:
    assert all(row.seconds > 0 for row in AMOUNTS.values() if row.reset is Reset.FILLS)
    assert len(AMOUNTS) == 6 * 3 + 1 + 3 + 1
