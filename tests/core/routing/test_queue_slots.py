"""Slots: how many an engine has, who may take one, and when to come again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.core.fleet.gauges import EngineGauges
from aibrix_extproc.core.openai.wire.usage import Usage
from aibrix_extproc.core.routing.queue.classes import RequestClass
from aibrix_extproc.core.routing.queue.drain import DrainRate
from aibrix_extproc.core.routing.queue.line import Ticket
from aibrix_extproc.core.routing.queue.model_queue import ModelQueue
from aibrix_extproc.core.routing.queue.shares import MEAN_SECONDS, Room, Shares
from aibrix_extproc.core.routing.queue.slots import BACKLOG, Slots
from aibrix_extproc.core.routing.queue.work import WorkEstimates

DEFAULT, BATCH = RequestClass.DEFAULT, RequestClass.BATCH


def test_fixed_number_of_places_counts_whatever_readings_say() -> None:
    slots = Slots(8)
    slots.read("e", EngineGauges(at=1.0, running=2.0, waiting=9.0))
    assert slots.of("e") == slots.of("e", 99) == 8


def test_what_a_pod_says_of_its_engine_goes_before_what_is_learned() -> None:
    slots = Slots()
    slots.read("e", EngineGauges(at=1.0, running=3.0, waiting=9.0))
    assert slots.of("e", 64) == 64 + BACKLOG
    assert slots.of("e") == 3 + BACKLOG


def test_places_are_learned_from_an_engine_in_which_requests_wait() -> None:
    slots = Slots()
    slots.read("e", EngineGauges(at=1.0, running=4.0, waiting=0.0))
    assert slots.of("e") is None
    slots.read("e", EngineGauges(at=2.0, running=8.0, waiting=5.0))
    assert slots.of("e") == 8 + BACKLOG
    for at in (3.0, 4.0):
        slots.read("e", EngineGauges(at=at, running=8.0, waiting=0.0))  # it took all that it was given
    assert slots.of("e") == 9 + BACKLOG
    slots.read("e", EngineGauges(at=4.0, running=1.0, waiting=50.0))  # no new reading
    assert slots.of("e") == 9 + BACKLOG
    for at in range(5, 60):
        slots.read("e", EngineGauges(at=float(at), running=4.0, waiting=3.0))  # long prompts: fewer fit
    assert slots.of("e") == pytest.approx(4 + BACKLOG, abs=0.01)
    slots.forget("e")
    assert slots.of("e") is None


def may(shares: Shares, caller: str, free: float, slots: float, now: float, kind: RequestClass = DEFAULT) -> bool:
    return shares.reading(Room(free, slots), now).may_start(caller, kind)


def used(shares: Shares, caller: str, count: int, seconds: float, now: float) -> float:
    """A caller holds so many slots for a time; returns the time after it."""
    for _ in range(count):
        shares.started(caller, now, batch=False)
    for _ in range(count):
        shares.ended(caller, now + seconds, batch=False)
    return now + seconds


def test_places_are_kept_for_who_used_them_lately_and_given_up_after_a_while() -> None:
    shares = Shares()
    now = used(shares, "small", 1, 60.0, 0.0)
    for _ in range(5):
        shares.started("large", now, batch=False)
    assert not may(shares, "large", 3, 8, now)  # beyond its half; small had one on average, and may come three times
    assert may(shares, "large", 4, 8, now)
    assert may(shares, "small", 1, 8, now)
    assert may(shares, "large", 1, 8, now + 10 * MEAN_SECONDS)


def test_many_callers_that_come_rarely_keep_few_places_from_one_that_has_much_to_do() -> None:
    shares, now = Shares(), 0.0
    for number in range(100):
        now = used(shares, f"c-{number}", 1, 0.02, now)
    shares.started("large", now, batch=False)
    shares.started("large", now, batch=False)
    assert may(shares, "large", 7, 8, now)


def test_batches_get_what_nobody_else_wants() -> None:
    shares = Shares()
    now = used(shares, "me", 1, 60.0, 0.0)
    assert not may(shares, "me", 4, 8, now, BATCH)
    assert may(shares, "me", 5, 8, now, BATCH)
    assert may(Shares(), "me", 1, 8, now, BATCH)


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.floats(0, 5)), max_size=60),
    st.integers(1, 9),
)
def test_callers_within_their_share_always_get_a_free_place_and_none_gets_one_that_is_not_there(
    steps: list[tuple[str, bool, float]], slots: int
) -> None:
    shares, now = Shares(), 0.0
    running = dict.fromkeys("abc", 0)
    for caller, starts, seconds in steps:
        now += seconds
        free = slots - sum(running.values())
        allowed = may(shares, caller, free, slots, now)
        assert allowed or free < 1 or running[caller] >= max(slots // 3, 1)
        assert not (allowed and free < 1)
        if starts and allowed:
            shares.started(caller, now, batch=False)
            running[caller] += 1
        elif not starts and running[caller]:
            shares.ended(caller, now, batch=False)
            running[caller] -= 1


def test_one_caller_alone_may_have_all_slots() -> None:
    shares = Shares()
    for number in range(8):
        assert may(shares, "me", 8 - number, 8, 0.0)
        shares.started("me", 0.0, batch=False)
    assert not may(shares, "me", 0, 8, 0.0)


def test_retry_after_follows_the_drain_rate() -> None:
    rate = DrainRate(0.0)
    assert rate.retry_after(10, 0.0) == 5
    for at in range(1, 41):
        rate.departed(at / 2)
    assert rate.retry_after(19, 20.0) == 10
    assert rate.retry_after(0, 20.0) == 1
    assert rate.retry_after(10_000, 20.0) == 60


def test_estimates_follow_the_answers_of_a_caller_and_the_bound_of_the_request() -> None:
    work = WorkEstimates()
    first = work.estimated("me", 4000, None)
    assert work.estimated("me", 4000, 1) < first
    for _ in range(60):
        actual = work.learn("me", 4000, Usage(1000, 10, 900))
    assert work.estimated("me", 4000, None) == pytest.approx(actual)
    assert work.estimated("other", 4000, None) == first


def test_only_who_may_not_go_is_overtaken() -> None:
    queue, room = ModelQueue(0.0), Room(4, 8)
    for _ in range(4):
        queue.shares.started("large", 0.0, batch=False)
        queue.shares.started("small", 0.0, batch=False)
    for _ in range(4):
        queue.shares.ended("small", 60.0, batch=False)
    waits = Ticket("large", DEFAULT, 1.0, 1, 60.0)
    queue.line.enter(waits)
    assert queue.next(room, 60.0) is None  # it has its half, and the others are kept for `small`
    assert queue.may_pass("small", DEFAULT, room, 60.0)
    assert not queue.may_pass("large", DEFAULT, room, 60.0)
    assert not queue.may_pass("small", DEFAULT, Room(0, 8), 60.0)
    queue.line.enter(Ticket("me", BATCH, 1.0, 1, 60.0))
    assert not queue.may_pass("other", BATCH, room, 200.0)
    assert queue.next(room, 200.0) is waits
    queue.go(waits, 200.0)
    assert queue.next(Room(0, 8), 200.0) is None
