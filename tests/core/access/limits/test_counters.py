"""Counters against a plain model in fractions, and the rules that callers rely on."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aibrix_extproc.core.access.limits.counters import (
    ADMITTED,
    TOLERANCE,
    Claim,
    Counters,
    Form,
    Known,
    fits_after,
    full_after,
    remaining,
)

SECOND = 1e6
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
WINDOW_END = 90 * MINUTE
CLAIMS = (
    Claim("a requests", Form.BUCKET, 0, 6, MINUTE / 6),
    Claim("a tokens", Form.BUCKET, 1, 1000, MINUTE / 1000),
    Claim("a soft", Form.BUCKET, 1, 100, MINUTE / 100, soft=True),
    Claim("a budget", Form.WINDOW, 2, 5000, WINDOW_END),
    Claim("a concurrent", Form.LEASE, 3, 2, 0),
)
KEEP, LEASE = 30 * MINUTE, 20 * SECOND


class _Model:
    """The same in words: levels that sink with time, sums, and lists of members."""

    def __init__(self) -> None:
        self.levels = {claim.counter: Fraction(0) for claim in CLAIMS}
        self.members: dict[str, dict[str, float]] = {}
        self.held: dict[str, tuple[dict[str, float], float]] = {}
        self.now = 0.0

    def advance(self, micros: float) -> None:
        self.now += micros
        for claim in CLAIMS:
            if claim.form == Form.BUCKET:
                sunk = self.levels[claim.counter] - Fraction(micros) / Fraction(claim.span)
                self.levels[claim.counter] = max(Fraction(0), sunk)
            elif claim.form == Form.WINDOW and self.now >= claim.span:
                self.levels[claim.counter] = Fraction(0)
        for of in self.members.values():
            for member in [one for one, expires in of.items() if expires <= self.now]:
                del of[member]

    def fits(self, claim: Claim, cost: float) -> bool:
        if claim.soft or cost == 0:
            return True
        if claim.form == Form.LEASE:
            return len(self.members.get(claim.counter, {})) + cost <= claim.amount
        slack = Fraction(TOLERANCE) / Fraction(claim.span) if claim.form == Form.BUCKET else 0
        return self.levels[claim.counter] + Fraction(cost) <= Fraction(claim.amount) + slack

    def reserve(self, name: str, costs: dict[str, float]) -> bool:
        claims = [claim for claim in CLAIMS if claim.counter in costs]
        if not all(self.fits(claim, costs[claim.counter]) for claim in claims):
            return False
        for claim in claims:
            cost = costs[claim.counter]
            if claim.form == Form.WINDOW and self.now >= claim.span:
                continue  # nobody asks for a window that has ended
            if claim.form != Form.LEASE:
                self.levels[claim.counter] += Fraction(cost)
            elif cost:
                self.members.setdefault(claim.counter, {})[name] = self.now + LEASE
        self.held[name] = (costs, self.now + KEEP)
        return True

    def leave(self, name: str) -> None:
        for of in self.members.values():
            of.pop(name, None)

    def settle(self, name: str, actual: tuple[float, ...] | None) -> bool:
        costs, expires = self.held.pop(name, ({}, 0))
        if expires <= self.now:
            return False
        for claim in CLAIMS:
            if claim.counter not in costs:
                continue
            if claim.form == Form.LEASE:
                self.members.get(claim.counter, {}).pop(name, None)
            elif actual is not None and not (claim.form == Form.WINDOW and self.now >= claim.span):
                changed = self.levels[claim.counter] + Fraction(actual[claim.quantity]) - Fraction(costs[claim.counter])
                self.levels[claim.counter] = max(Fraction(0), changed)
        return True


COSTS = st.fixed_dictionaries(
    {},
    optional={
        "a requests": st.sampled_from([0, 1]),
        "a tokens": st.integers(0, 700),
        "a soft": st.integers(0, 90),
        "a budget": st.integers(0, 2000),
        "a concurrent": st.sampled_from([0, 1]),
    },
)


class CountersAgainstModel(RuleBasedStateMachine):
    """Any order of reservations, settlements, releases and time."""

    def __init__(self) -> None:
        super().__init__()
        self.counters, self.model, self.number = Counters(), _Model(), 0

    @rule(costs=COSTS)
    def reserve(self, costs: dict[str, float]) -> None:
        self.number += 1
        name = f"r{self.number}"
        claims = tuple(claim for claim in CLAIMS if claim.counter in costs)
        given = tuple(float(costs[claim.counter]) for claim in claims)
        reading = self.counters.reserve(self.model.now, name, claims, given, keep=KEEP, lease=LEASE)
        assert (reading.refused == ADMITTED) == self.model.reserve(name, costs)
        if reading.refused != ADMITTED:
            assert not claims[reading.refused].soft

    @rule(pick=st.integers(0), actual=st.none() | st.tuples(*(st.integers(0, 3000).map(float) for _ in range(4))))
    def settle(self, pick: int, actual: tuple[float, ...] | None) -> None:
        name = f"r{pick % (self.number + 1)}"
        assert self.counters.settle(self.model.now, name, actual) == self.model.settle(name, actual)

    @precondition(lambda self: self.number)
    @rule(pick=st.integers(0))
    def release(self, pick: int) -> None:
        name = f"r{pick % (self.number + 1)}"
        self.counters.release(name)
        if name in self.model.held:
            self.model.leave(name)

    @rule(micros=st.sampled_from([0, 1, 20_000, SECOND, 7 * SECOND, MINUTE, 31 * MINUTE]))
    def wait(self, micros: float) -> None:
        self.model.advance(micros)

    @rule(most=st.integers(1, 5))
    def prune(self, most: int) -> None:
        self.counters.prune(self.model.now, most)

    @invariant()
    def agree(self) -> None:
        for claim in CLAIMS:
            state = self.counters.reserve(self.model.now, "", (claim,), (0.0,), keep=KEEP, lease=LEASE).states[0]
            if claim.form == Form.LEASE:
                assert state == len(self.model.members.get(claim.counter, {}))
            else:
                level = self.model.levels[claim.counter]
                left = max(0.0, float(Fraction(claim.amount) - level))
                assert remaining(claim, state, self.model.now) == pytest.approx(left, abs=1e-6)


CountersAgainstModel.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestCountersAgainstModel = CountersAgainstModel.TestCase


def take(counters: Counters, now: float, *costs: float, claims: tuple[Claim, ...] = CLAIMS[:2], name: str = "") -> int:
    return counters.reserve(now, name, claims, costs, keep=KEEP, lease=LEASE).refused


@given(st.lists(st.integers(0, 3_000_000), min_size=1, max_size=200))
def test_a_saturated_bucket_admits_its_amount_and_then_exactly_its_rate(gaps: list[int]) -> None:
    counters, now, admitted = Counters(), 0.0, 0
    bucket = (Claim("a", Form.BUCKET, 0, 60, SECOND),)
    for gap in gaps:
        for _ in range(70):  # more than ever fit
            admitted += take(counters, now, 1.0, claims=bucket) == ADMITTED
        assert admitted == 60 + int((now + TOLERANCE) // SECOND)
        now += min(gap, 59_000_000)


def test_nothing_is_taken_from_one_counter_when_another_refuses() -> None:
    counters = Counters()
    assert take(counters, 0, 1, 900) == ADMITTED
    assert take(counters, 0, 1, 900) == 1
    assert take(counters, 0, 5, 0) == ADMITTED
    assert take(counters, 0, 1, 0) == 0


def test_the_claim_that_waits_longest_is_the_one_that_refuses() -> None:
    counters = Counters()
    take(counters, 0, 6, 1000)
    reading = counters.reserve(0, "", CLAIMS[:2], (1.0, 500.0), keep=KEEP, lease=LEASE)
    assert reading.refused == 1
    assert fits_after(CLAIMS[1], reading.states[1], 500, 0) == 30 * SECOND
    assert full_after(CLAIMS[1], reading.states[1], 0) == MINUTE


def test_a_settlement_counts_once_and_may_exceed_the_limit() -> None:
    counters = Counters()
    take(counters, 0, 1, 100, name="x")
    assert counters.settle(0, "x", (1.0, 2500.0))
    assert not counters.settle(0, "x", (1.0, 0.0))
    reading = counters.reserve(0, "", CLAIMS[:2], (1.0, 1.0), keep=KEEP, lease=LEASE)
    assert reading.refused == 1
    assert remaining(CLAIMS[1], reading.states[1], 0) == 0
    assert fits_after(CLAIMS[1], reading.states[1], 1, 0) == pytest.approx(1501 * MINUTE / 1000)


def test_a_clock_that_is_set_back_leaves_a_bucket_as_full_as_it_was() -> None:
    counters = Counters()
    assert take(counters, HOUR, 6, 0) == ADMITTED
    assert take(counters, 0, 1, 0) == 0
    assert take(counters, MINUTE / 6, 1, 0) == ADMITTED
    assert take(counters, MINUTE / 6, 1, 0) == 0


def test_what_was_lost_is_restored_by_those_who_knew_it_and_owed_it() -> None:
    """Two processes that knew the same state, and admitted one each while the counters were away."""
    before = Counters()
    known = before.reserve(0, "", CLAIMS[:1], (4.0,), keep=KEEP, lease=LEASE)
    fresh, later = Counters(), SECOND
    memory = Known(known.born, known.states[0], known.now, debt=1)
    for _ in range(2):
        fresh.reserve(later, "", CLAIMS[:1], (0.0,), keep=KEEP, lease=LEASE, known=(memory,))
    assert take(fresh, later, 1, claims=CLAIMS[:1]) == 0
    assert take(fresh, MINUTE / 6, 1, claims=CLAIMS[:1]) == ADMITTED


def test_a_process_that_comes_late_adds_what_it_knew_to_what_was_taken_meanwhile() -> None:
    before, fresh, bucket = Counters(), Counters(), CLAIMS[:1]
    known = before.reserve(0, "", bucket, (4.0,), keep=KEEP, lease=LEASE)
    assert take(fresh, SECOND, 1, claims=bucket) == take(fresh, 2 * SECOND, 1, claims=bucket) == ADMITTED
    memory = Known(known.born, known.states[0], known.now)
    for _ in range(2):  # it counts once
        reading = fresh.reserve(3 * SECOND, "", bucket, (0.0,), keep=KEEP, lease=LEASE, known=(memory,))
        assert reading.states[0] == known.states[0] + 2 * bucket[0].span


def test_a_refund_is_not_taken_for_a_loss() -> None:
    counters, bucket = Counters(), CLAIMS[1:2]
    first = counters.reserve(0, "x", bucket, (900.0,), keep=KEEP, lease=LEASE)
    counters.settle(0, "x", (0.0, 0.0))
    memory = Known(first.born, first.states[0], first.now)
    reading = counters.reserve(SECOND, "", bucket, (900.0,), keep=KEEP, lease=LEASE, known=(memory,))
    assert reading.refused == ADMITTED


def test_members_of_a_dead_process_expire_and_others_are_renewed() -> None:
    counters, lease = Counters(), CLAIMS[4:]
    assert take(counters, 0, 1, claims=lease, name="dead") == ADMITTED
    assert take(counters, 0, 1, claims=lease, name="alive") == ADMITTED
    assert take(counters, 0, 1, claims=lease, name="third") == 0
    assert counters.renew(15 * SECOND, lease[0].counter, ("alive",), LEASE) == 2
    assert take(counters, 21 * SECOND, 1, claims=lease, name="third") == ADMITTED
    assert take(counters, 21 * SECOND, 1, claims=lease, name="fourth") == 0


def test_counters_that_are_as_good_as_new_are_forgotten() -> None:
    counters = Counters()
    for number in range(50):
        claim = Claim(f"c{number}", Form.BUCKET, 0, 10, SECOND)
        take(counters, 0, 1, claims=(claim,), name=f"r{number}")
    counters.prune(2 * SECOND, 100)
    assert len(counters) == 50
    counters.prune(KEEP, 100)
    assert len(counters) == 0
