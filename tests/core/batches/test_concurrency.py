"""Additive increase, multiplicative decrease, against an engine with room for so many."""

import pytest

from aibrix_extproc.core.batches.concurrency import LEAST, PER_ENGINE, YIELD, Concurrency
from aibrix_extproc.core.batches.engine_load import EngineLoadReport

SECONDS = 0.1  # of an answer


def simulated(limit: Concurrency, room: int, rounds: int, start: float = 0.0) -> list[float]:
    """Rounds of an engine that refuses what is over its room; the limit after each."""
    found = []
    for number in range(rounds):
        now = start + number * SECONDS
        sent = int(limit.limit)
        for place in range(sent):
            if place < room:
                limit.succeeded(now, SECONDS, sent - 1)
            else:
                limit.overloaded(now)
        found.append(limit.limit)
    return found


@pytest.mark.parametrize("room", [1, 3, 10, 40, 200])
def test_limit_finds_the_room_of_an_engine_and_stays_near_it(room: int) -> None:
    limits = simulated(Concurrency(), room, 3000)[1000:]
    assert max(limits) <= room + 2
    assert sum(limits) / len(limits) >= min(0.7 * room, room - 0.5)


def test_limit_follows_an_engine_that_shrinks_and_grows_again() -> None:
    limit = Concurrency()
    assert simulated(limit, 64, 2000)[-1] > 30
    assert simulated(limit, 4, 500, 1000.0)[-1] <= 6
    assert simulated(limit, 64, 2000, 2000.0)[-1] > 30


def test_refusals_of_one_overload_count_once() -> None:
    limit = Concurrency(start=64.0)
    for _ in range(64):
        limit.overloaded(1.0)
    assert limit.limit == 32.0


def test_limit_that_is_not_reached_does_not_grow_and_one_stays_always() -> None:
    limit = Concurrency(start=8.0)
    for now in range(1000):
        limit.succeeded(float(now), SECONDS, 3)
    assert limit.limit == 8.0
    for now in range(0, 1000, 10):
        limit.overloaded(float(now))
    assert limit.limit == LEAST
    assert limit.room(0) == 1


def busy(limit: Concurrency, others: int, engines: int = 2, gateway: str = "a", now: float = 0.0) -> int:
    """The room after a report."""
    limit.reported(now, EngineLoadReport(gateway, others, engines))
    return limit.room(0)


def test_lines_make_way_for_requests_of_others_and_come_back_after_them() -> None:
    limit = Concurrency(start=40.0)
    assert busy(limit, 0) == 40
    assert busy(limit, 2) == 38, "one for each engine costs nothing but its place"
    assert busy(limit, 4) == 40 - 4 - 2 * YIELD
    assert busy(limit, 500) == 1, "one runs on, or no report would come any more"
    for answers in range(1, 40):
        limit.succeeded(100.0, SECONDS, 0)
        assert busy(limit, 0, now=100.0) == answers + 1, "they come back one by one"
    limit.succeeded(100.0, SECONDS, 0)
    assert busy(limit, 0, now=100.0) == 40


def test_moment_without_others_in_a_burst_does_not_bring_the_lines_back() -> None:
    limit = Concurrency(start=64.0)
    for now in range(50):
        busy(limit, 8, now=now / 10)
    assert busy(limit, 1, now=5.1) == 1
    for _ in range(100):
        limit.succeeded(5.1, SECONDS, 0)
        assert busy(limit, 1, now=5.1) == 1, "the mean remembers the burst"
    for _ in range(100):
        limit.succeeded(15.0, SECONDS, 0)
        busy(limit, 1, now=15.0)
    assert limit.room(0) >= 62


def test_bound_is_one_of_each_engine_that_is_ready() -> None:
    found = [busy(Concurrency(start=10_000.0), 0, engines) for engines in (1, 2, 5)]
    assert found == [PER_ENGINE, 2 * PER_ENGINE, 5 * PER_ENGINE]


def test_reports_of_several_gateways_add_up_until_they_are_old() -> None:
    limit = Concurrency(start=40.0)
    assert busy(limit, 2, gateway="a") == 38
    assert busy(limit, 1, gateway="b", now=20.0) == 40 - 3 - YIELD
    for _ in range(40):
        limit.succeeded(31.0, SECONDS, 0)
    assert busy(limit, 1, gateway="b", now=31.0) >= 38


def test_limit_does_not_grow_while_others_keep_the_engines_busy() -> None:
    limit = Concurrency(start=8.0)
    busy(limit, 100)
    for now in range(1000):
        limit.succeeded(float(now), SECONDS, 0)
    assert limit.limit == 8.0


def test_limit_doubles_a_round_until_the_first_refusal() -> None:
    limit = Concurrency(start=8.0)
    for _ in range(8):
        limit.succeeded(0.0, SECONDS, int(limit.limit) - 1)
    assert limit.limit == 16.0
    limit.overloaded(0.0)
    limit.succeeded(10.0, SECONDS, 7)
    assert limit.limit == 8.125
