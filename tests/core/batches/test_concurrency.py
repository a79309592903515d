"""Additive increase, multiplicative decrease, against an engine with room for so many."""

import pytest

from aibrix_extproc.core.batches.concurrency import LEAST, Concurrency

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
