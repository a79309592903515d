"""Which limits apply to whom, and the prices of models."""

import datetime
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.core.access.limits.book import LimitBook
from aibrix_extproc.core.access.limits.counters import EPOCH, Form
from aibrix_extproc.core.access.limits.enqueued import ENQUEUED, EnqueuedLimit, enqueued_limits
from aibrix_extproc.core.access.limits.prices import PriceList
from aibrix_extproc.core.access.limits.records import LimitRecord, PriceRecord
from aibrix_extproc.core.access.limits.windows import window_of


def record(
    caller: str | None = None, key: str | None = None, model: str | None = None, **limits: float | None
) -> LimitRecord:
    return LimitRecord(f"{caller},{key},{model}", caller, key, model, dict(limits))


def amounts(book: LimitBook, caller: str, key: str = "", model: str = "") -> dict[str, float]:
    return {
        term.claim.counter.replace("\n", " "): term.limit for term in book.plan(caller, key, model, lambda: 0.0).terms
    }


def test_an_exact_record_replaces_amount_by_amount_what_is_said_of_each() -> None:
    book = LimitBook(
        [
            record("a", requests_per_minute=5, tokens_per_day=None),
            record("*", requests_per_minute=1, tokens_per_day=9, concurrent_requests=2),
        ]
    )
    assert amounts(book, "a") == {"c=a requests_per_minute": 5, "c=a concurrent_requests": 2}
    assert amounts(book, "b") == {
        "c=b requests_per_minute": 1,
        "c=b tokens_per_day": 9,
        "c=b concurrent_requests": 2,
    }


def test_records_of_different_forms_apply_at_once() -> None:
    book = LimitBook(
        [
            record("a", requests_per_minute=1),
            record(key="k1", requests_per_minute=2),
            record("a", key="*", requests_per_minute=3),
            record(model="m", requests_per_minute=4),
            record("*", model="*", requests_per_minute=5),
            record(requests_per_minute=6),
        ]
    )
    assert amounts(book, "a", "k1", "m") == {
        "c=a requests_per_minute": 1,
        "k=k1 requests_per_minute": 2,
        "c=a k=k1 requests_per_minute": 3,
        "m=m requests_per_minute": 4,
        "c=a m=m requests_per_minute": 5,
        " requests_per_minute": 6,
    }
    assert amounts(book, "a", "", "") == {"c=a requests_per_minute": 1, " requests_per_minute": 6}


def test_who_has_no_limit_is_known_before_the_model_is() -> None:
    book = LimitBook([record("a", requests_per_minute=1), record(key="k", requests_per_minute=1)])
    assert book.limits("a", "")
    assert book.limits("b", "k")
    assert not book.limits("b", "x")
    assert not book.limits("b", "")
    assert not LimitBook().limits("a", "k")
    assert LimitBook([record(model="m", requests_per_minute=1)]).limits("b", "")


NAMES = st.sampled_from([None, "*", "a", "b"])


@given(
    st.lists(st.tuples(NAMES, NAMES, NAMES), max_size=6), st.sampled_from(["", "a", "c"]), st.sampled_from(["", "b"])
)
def test_who_is_limited_has_a_plan_with_limits_for_some_model(
    subjects: list[tuple[str | None, str | None, str | None]], caller: str, key: str
) -> None:
    book = LimitBook([record(*subject, requests_per_day=1) for subject in subjects])
    assert book.limits(caller, key) == any(amounts(book, caller, key, model) for model in ("", "a", "b", "c"))


def test_asking_who_is_limited_takes_as_long_with_many_records() -> None:
    def seconds(count: int) -> float:
        book = LimitBook([record(f"team-{number}", requests_per_day=1) for number in range(count)])
        found = []
        for run in range(20):
            began = time.perf_counter()
            for number in range(20):
                book.limits(f"other-{run}-{number}", "k")
            found.append(time.perf_counter() - began)
        return min(found)

    assert seconds(5000) < 30 * seconds(5), "a look at each record would take a thousand times as long"


def test_a_share_of_a_limit_of_all_is_what_each_caller_may_use() -> None:
    fair = LimitRecord("m", model="m", limits={"concurrent_requests": 9, "tokens_per_day": 100}, caller_share=0.25)
    book = LimitBook([fair])
    assert amounts(book, "a", "", "m") == {
        "m=m concurrent_requests": 9, "m=m tokens_per_day": 100,
        "c=a m=m concurrent_requests": 2, "c=a m=m tokens_per_day": 25,
    }  # fmt: skip
    book = LimitBook([fair, LimitRecord("a", "a", None, "m", limits={"concurrent_requests": 5})])
    assert amounts(book, "a", "", "m")["c=a m=m concurrent_requests"] == 5
    assert amounts(book, "b", "", "m")["c=b m=m concurrent_requests"] == 2


def test_tokens_of_batches_are_for_callers_and_models_and_counted_elsewhere() -> None:
    records = [
        LimitRecord("1", "*", None, "*", limits={ENQUEUED: 50}),
        LimitRecord("2", "a", None, "m", limits={ENQUEUED: 70}),
        LimitRecord("3", model="m", limits={ENQUEUED: 200}, caller_share=0.5),
        LimitRecord("4", "a", limits={ENQUEUED: 90}),
        LimitRecord("5", "b", limits={"requests_per_day": 1}),
    ]  # fmt: skip
    assert enqueued_limits(records, "a", "m", default=10) == (
        EnqueuedLimit(None, "m", 200), EnqueuedLimit("a", None, 90), EnqueuedLimit("a", "m", 70),
    )  # fmt: skip
    assert enqueued_limits(records, "b", "n") == (EnqueuedLimit("b", "n", 50),)
    assert enqueued_limits([], "b", "n", default=10) == (EnqueuedLimit("b", "n", 10),)
    assert enqueued_limits([], "b", "n") == ()
    assert amounts(LimitBook(records[:1]), "a", "", "m") == {}


def test_a_budget_has_a_counter_for_each_window() -> None:
    book = LimitBook([record("a", budget_per_day=1.5)])
    first = book.plan("a", "", "m", lambda: 0.0)
    assert first.claims[0].amount == 1_500_000
    assert first.claims[0].form == Form.WINDOW
    assert book.plan("a", "", "m", lambda: 86_400e6 - 1) is first
    assert book.plan("a", "", "m", lambda: 86_400e6).claims[0].counter != first.claims[0].counter


def test_a_soft_limit_stands_beside_a_hard_one() -> None:
    soft = LimitRecord("a", "a", limits={"requests_per_day": 10}, soft_limits={"requests_per_day": 8})
    hard, other = LimitBook([soft]).plan("a", "", "", lambda: 0.0).claims
    assert (hard.soft, other.soft) == (False, True)
    assert hard.counter != other.counter


@given(st.integers(EPOCH, EPOCH + 200 * 366 * 86_400), st.sampled_from(["day", "week", "month"]))
def test_windows_are_those_of_the_calendar(seconds: int, period: str) -> None:
    name, end = window_of(period, (seconds - EPOCH) * 1e6)
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    expected = {
        "day": day + datetime.timedelta(days=1),
        "week": day + datetime.timedelta(days=7 - day.weekday()),
        "month": (day.replace(day=1) + datetime.timedelta(days=32)).replace(day=1),
    }[period]
    assert datetime.datetime.fromtimestamp(end / 1e6 + EPOCH, datetime.UTC) == expected
    assert name != window_of(period, end)[0]


def test_prices_of_a_name_come_before_patterns_and_longer_patterns_before_shorter() -> None:
    prices = PriceList(
        [
            PriceRecord("1", "*", {"input_tokens": 1}),
            PriceRecord("2", "llama-*", {"input_tokens": 2, "cached_input_tokens": 0.5, "output_tokens": 4}),
            PriceRecord("3", "llama-8b", {"requests": 0.01, "audio_minutes": 6}),
        ]
    )
    assert prices.cost("other", 10, 0, 10) == 10
    assert prices.cost("llama-70b", 10, 4, 5) == 6 * 2 + 4 * 0.5 + 5 * 4
    assert prices.cost("llama-8b", 10, 0, 10, 30) == pytest.approx(3_010_000)
    assert PriceList([]).cost("x", 1, 1, 1) == 0
