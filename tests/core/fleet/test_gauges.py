"""Readings of engines: what others add to our own counts, and how that fades with age."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.core.fleet.gauge_book import GaugeBook
from aibrix_extproc.core.fleet.gauges import FRESH_SECONDS, STALE_SECONDS, EngineGauges, freshness


def a_book(**reading: object) -> GaugeBook:
    """A book with one reading of engine `e`, at 100.0."""
    book = GaugeBook()
    book.take("e", EngineGauges(**{"at": 100.0, **reading}))  # type: ignore[arg-type]
    return book


@pytest.mark.parametrize(
    ("reading", "own", "age", "requests"),
    [
        ({"running": 5, "waiting": 3, "own": 2}, 2, 0.0, 8.0),
        ({"running": 5, "waiting": 3, "own": 2}, 4, 0.0, 10.0),
        ({"running": 1, "waiting": 0, "own": 4}, 4, 0.0, 4.0),
        ({"running": 5, "own": 2}, 2, 0.0, 5.0),
        ({"waiting": 5, "own": 2}, 2, 0.0, 2.0),
        ({"running": 5, "waiting": 3, "own": 2}, 2, (FRESH_SECONDS + STALE_SECONDS) / 2, 5.0),
        ({"running": 5, "waiting": 3, "own": 2}, 2, STALE_SECONDS, 2.0),
    ],
    ids=["others", "others-and-news", "fewer-than-ours", "no-waiting", "no-running", "fading", "stale"],
)
def test_requests_are_our_own_and_those_of_others_by_a_fresh_reading(
    reading: dict[str, float], own: int, age: float, requests: float
) -> None:
    assert a_book(**reading).requests("e", own, 100.0 + age) == pytest.approx(requests)


def test_an_endpoint_without_a_reading_has_our_own_requests() -> None:
    book = a_book(running=5.0)
    book.forget(["e", "never-read"])

    assert book.of("e") is None
    assert book.requests("e", 3, 100.0) == 3


@given(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9))
def test_freshness_never_grows_with_age(one: float, other: float) -> None:
    assert 0.0 <= freshness(max(one, other)) <= freshness(min(one, other)) <= 1.0
