"""Rates by the differences of counters between readings."""

import pytest

from aibrix_extproc.core.fleet.engine_rates import WINDOW_SECONDS, EngineRates
from aibrix_extproc.core.fleet.gauge_book import GaugeBook
from aibrix_extproc.core.fleet.gauges import EngineGauges


def reading(at: float, **values: float) -> EngineGauges:
    return EngineGauges(at=at, **values)  # type: ignore[arg-type]


def rates_of(*readings: EngineGauges) -> EngineRates:
    book = GaugeBook()
    for one in readings:
        book.take("e", one)
    rates = book.rates("e")
    assert rates is not None
    return rates


def test_a_first_reading_has_no_rates() -> None:
    rates = rates_of(reading(0.0, running=3, prompt_tokens=1e6, generation_tokens=1e6, first_tokens=1e3))

    assert (rates.busy_share, rates.weighted_tokens_per_second, rates.seconds_per_token) == (None, None, None)
    assert (rates.generated_per_busy_second, rates.first_token_seconds_per_prompt_token) == (None, None)


def test_rates_are_differences_over_time_requests_and_tokens() -> None:
    before = reading(
        0.0, running=2, prompt_tokens=100, generation_tokens=50, first_tokens=1, first_token_seconds=1.0, token_gaps=50,
        token_gap_seconds=5.0,
    )  # fmt: skip
    after = reading(
        2.0, running=1, waiting=2, prompt_tokens=300, generation_tokens=90, first_tokens=3, first_token_seconds=2.0,
        token_gaps=90, token_gap_seconds=7.0,
    )  # fmt: skip
    rates = rates_of(before, after)

    assert rates.busy_share == pytest.approx(1.0)
    assert rates.mean_requests == pytest.approx(3.0)
    assert rates.weighted_tokens_per_second == pytest.approx((2 * 200 + 40) / 2.0)
    assert rates.weighted_tokens_per_request == pytest.approx((2 * 200 + 40) / 2)
    assert rates.generated_per_busy_second == pytest.approx(20.0)
    assert rates.first_token_seconds_per_prompt_token == pytest.approx(1.0 / 200)
    assert rates.seconds_per_token == pytest.approx(2.0 / 40)


def test_idle_time_makes_no_engine_look_slow_but_idle() -> None:
    busy = (reading(0.0, running=1, generation_tokens=0), reading(1.0, running=1, generation_tokens=100))
    rates = rates_of(*busy, *(reading(1.0 + step, running=0, generation_tokens=100) for step in range(1, 20)))

    assert rates.generated_per_busy_second == pytest.approx(100.0)
    assert rates.busy_share is not None
    assert rates.busy_share < 0.1


def test_what_was_long_ago_fades() -> None:
    old = (
        reading(0.0, running=1, token_gaps=0, token_gap_seconds=0.0),
        reading(1.0, token_gaps=9, token_gap_seconds=9.0),
    )
    rates = rates_of(*old, reading(1.0 + 10 * WINDOW_SECONDS, token_gaps=19, token_gap_seconds=9.1))

    assert rates.seconds_per_token == pytest.approx(0.01, rel=0.1)


def test_an_engine_that_starts_anew_has_no_history() -> None:
    rates = rates_of(
        reading(0.0, running=1, prompt_tokens=0),
        reading(1.0, running=1, prompt_tokens=500),
        reading(2.0, prompt_tokens=3),
    )

    assert rates.busy_share is None


def test_a_clock_that_jumps_back_changes_nothing() -> None:
    rates = rates_of(reading(5.0, prompt_tokens=0), reading(6.0, prompt_tokens=10), reading(1.0, prompt_tokens=20))

    assert rates.weighted_tokens_per_second == pytest.approx(20.0)
