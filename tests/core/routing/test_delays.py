"""What a request costs those that come after it."""

import pytest

from aibrix_extproc.core.routing.delays import add_delays
from aibrix_extproc.core.routing.engine import MAX_ARRIVALS, Arrivals, Engine
from aibrix_extproc.core.routing.speeds import Speeds
from aibrix_extproc.core.routing.work import WorkBook

NOW = 100.0


def engines(*waits: float, came: tuple[float, ...] = ()) -> list[Engine]:
    """Engines of one group with such waits; requests came so many seconds ago."""
    arrivals = Arrivals()
    for ago in came:
        arrivals.add(NOW - ago)
    found = [Engine(f"e{number}", "m", number, 1e-4, arrivals) for number in range(len(waits))]
    for one, wait in zip(found, waits, strict=True):
        one.free_at = NOW + wait
    return found


def delays(those: list[Engine], own: float, hit_rate: float = 0.0) -> tuple[list[float], dict[int, float]]:
    costs = [own] * len(those)
    return costs, add_delays(costs, [own] * len(those), those, WorkBook(Speeds()), hit_rate, NOW)


def test_half_as_many_follow_as_came_in_the_same_time_before() -> None:
    those = engines(2.0, 0.0, came=(9.0, 2.4, 2.0, 0.3))
    costs, others = delays(those, own=1.0)
    followers = 0.5 * (3 + 1) / 2  # three in 2.5 s and the request itself, for each of two engines
    assert others == {0: pytest.approx(followers)}
    assert costs == [pytest.approx(1.0 + 2.0 + followers), 1.0]


def test_a_full_cache_costs_what_is_found_again_and_its_computation_delays_others() -> None:
    those = engines(2.0, 0.0, came=(0.5, 0.5, 0.5))
    for one in those:
        one.is_full = True
    _, others = delays(those, own=1.0, hit_rate=0.5)
    assert others == {0: pytest.approx((1 + 1.0) * 1.5 - 1), 1: pytest.approx(0.5)}


def test_arrivals_are_bounded_and_in_order_whatever_clocks_say() -> None:
    arrivals = Arrivals()
    for number in range(5 * MAX_ARRIVALS):
        arrivals.add(NOW - number % 7)
    assert MAX_ARRIVALS <= len(arrivals.times) <= 2 * MAX_ARRIVALS
    assert arrivals.times == sorted(arrivals.times)
