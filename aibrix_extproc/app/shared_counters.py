"""Counters in Redis, and what counts while Redis is away: this process's share, or nothing.

Each answer of Redis is remembered. While it is away, the share of this process continues from there: of what was left,
and of what comes back, one part for each live gateway. Afterwards Redis gets what was admitted meanwhile as a debt, and
what it has lost itself by a restart, so that no caller gets a burst. Until all gateways have paid their debts, a
request needs both: a place in the share, and one in Redis. So nothing is admitted twice while they come back.
"""

import math
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from aibrix_extproc.adapters.counters.memory import MemoryCounters
from aibrix_extproc.adapters.counters.redis import RedisCounters
from aibrix_extproc.core.access.limits.counters import ADMITTED, Claim, Form, Known, Reading
from aibrix_extproc.core.access.limits.estimates import NOTHING

MAX_KNOWN: Final = 100_000
MAX_LOCAL: Final = 100_000
REPAID_AT_ONCE: Final = 50
FRESH: Final = 250_000.0  # microseconds: other gateways may have refunded something since
_BUCKET, _LEASE = int(Form.BUCKET), int(Form.LEASE)


class _Held(msgspec.Struct, frozen=True, gc=False):
    """A reservation in the share of this process."""

    claims: tuple[Claim, ...]
    costs: tuple[float, ...]
    in_redis: bool = False  # there, too


class SharedCounters:
    """`closed`: nobody is admitted while Redis is away."""

    def __init__(
        self, redis: RedisCounters, local: MemoryCounters, replicas: Callable[[], int], *, closed: bool
    ) -> None:
        self.redis = redis
        self._local = local
        self._replicas = replicas
        self._closed = closed
        self._known: dict[str, Known] = {}
        self._debtors: dict[str, Claim] = {}
        self._held: dict[str, _Held] = {}
        self._offset = 0.0  # Redis's clock minus ours
        self.admitted_locally = 0

    def __len__(self) -> int:
        return len(self._known)

    @property
    def is_away(self) -> bool:
        """Whether Redis cannot be asked."""
        return self.redis.is_away

    def clock(self) -> float:
        """The time of Redis, as far as it is known."""
        return self._local.clock() + self._offset

    def reserve(
        self, reservation: str, claims: tuple[Claim, ...], costs: tuple[float, ...]
    ) -> Reading | Awaitable[Reading | None] | None:
        """The reading, a wait for it, or None: nobody is admitted."""
        if self.redis.is_away:
            return self._without(reservation, claims, costs)
        if not self._closed and self.redis.is_gathering:
            return self._with_share(reservation, claims, costs)
        known = self._sent(claims)
        waiting = self.redis.reserve(reservation, claims, costs, known)
        if waiting is None:
            self._take_back(claims, known)
            return self._without(reservation, claims, costs)
        return self._or_without(waiting, reservation, claims, costs, known)

    def peek(self, claims: tuple[Claim, ...], *, fresh: bool = False) -> Reading:
        """Known states of counters, without asking. `fresh`: one that Redis has not confirmed a moment ago is empty."""
        now = self.clock()
        found = [self._known.get(claim.counter) for claim in claims]
        empty = [now if claim.form == _BUCKET else 0.0 for claim in claims]
        since = now - FRESH if fresh else -math.inf
        states = tuple(
            at_rest if one is None or one.at < since else one.state for one, at_rest in zip(found, empty, strict=True)
        )
        return Reading(now, ADMITTED, states, 0.0)

    def settle(self, reservation: str, actual: Sequence[float] | None) -> None:
        """Replace what was reserved."""
        held = self._held.pop(reservation, None)
        if held is None:
            self.redis.settle(reservation, actual)
            return
        self._local.settle(reservation, actual)
        if held.in_redis:
            self.redis.settle(reservation, actual)
        elif actual is not None:
            for claim, cost in zip(held.claims, held.costs, strict=True):
                if claim.form != _LEASE:
                    self._owe(claim, actual[claim.quantity] - cost)

    def release(self, reservation: str) -> None:
        """End the leases of a reservation."""
        held = self._held.get(reservation)
        if held is not None:
            self._local.release(reservation)
        if held is None or held.in_redis:
            self.redis.release(reservation)

    async def renew(self, counter: str, members: Sequence[str]) -> None:
        """Let members expire later, in Redis and, while the share counts, here."""
        if self.redis.is_away or self.redis.is_gathering:
            self._local.renew(counter, members)
        await self.redis.renew(counter, members)

    async def repay(self) -> None:
        """Give Redis all debts, also of callers who do not come again."""
        while self._debtors and not self.redis.is_away:
            claims = tuple(self._debtors.values())[:REPAID_AT_ONCE]
            known, nothing = self._sent(claims), (0.0,) * len(claims)
            for claim in claims:
                self._debtors.pop(claim.counter, None)
            waiting = self.redis.reserve("", claims, nothing, known)
            if waiting is None:
                self._take_back(claims, known)
                return
            if await self._asked(waiting, claims, known) is None:
                return

    async def _asked(
        self, waiting: Awaitable[Reading | None], claims: tuple[Claim, ...], known: Sequence[Known | None]
    ) -> Reading | None:
        """The reading of Redis, remembered; None if it did not answer."""
        reading = await waiting
        if reading is None:
            self._take_back(claims, known)
            return None
        self._remember(claims, reading)
        return reading

    async def _or_without(
        self,
        waiting: Awaitable[Reading | None],
        reservation: str,
        claims: tuple[Claim, ...],
        costs: tuple[float, ...],
        known: Sequence[Known | None],
    ) -> Reading | None:
        reading = await waiting
        if reading is None:
            self._take_back(claims, known)
            return self._without(reservation, claims, costs)
        self._remember(claims, reading)
        return reading

    def _with_share(
        self, reservation: str, claims: tuple[Claim, ...], costs: tuple[float, ...]
    ) -> Reading | Awaitable[Reading | None]:
        """Admit what fits into the share of this process and into Redis."""
        found = self._by_share(reservation, claims, costs)
        if found.refused != ADMITTED or not reservation:
            return found
        held = _Held(claims, costs, in_redis=True)
        self._hold(reservation, held)
        known = self._sent(claims)
        waiting = self.redis.reserve(reservation, claims, costs, known)
        if waiting is None:
            self._take_back(claims, known)
            self._keep_alone(reservation, claims, costs)
            return found
        return self._both(waiting, found, reservation, held, known)

    async def _both(
        self,
        waiting: Awaitable[Reading | None],
        found: Reading,
        reservation: str,
        held: _Held,
        known: Sequence[Known | None],
    ) -> Reading:
        reading = await self._asked(waiting, held.claims, known)
        if reading is None:  # it is away again, and the share decides
            self._keep_alone(reservation, held.claims, held.costs)
            return found
        if reading.refused != ADMITTED:
            self._held.pop(reservation, None)
            self._local.settle(reservation, NOTHING)
        return reading

    def _sent(self, claims: tuple[Claim, ...]) -> list[Known | None]:
        """What is known of counters. A debt goes with one request only: others may be on their way at the same time."""
        known = [self._known.get(claim.counter) for claim in claims]
        if self._debtors:
            for index, claim in enumerate(claims):
                one = known[index]
                if one is not None and one.debt != 0:
                    self._known[claim.counter] = replace(one, debt=0.0)
                    self._debtors.pop(claim.counter, None)
                    known[index] = replace(one, debt=self._still_owed(claim, one))
        return known

    def _still_owed(self, claim: Claim, known: Known) -> float:
        """A debt without what has come back to the share since: a long outage must not be paid for afterwards."""
        if claim.form != _BUCKET:
            return known.debt
        share = self._share(claim, max(self._replicas(), 1))
        now, (state,) = (reading := self._local.peek((share,))).now, reading.states
        return min(known.debt, (state - max(known.state - self._offset, now)) / share.span)

    def _take_back(self, claims: tuple[Claim, ...], known: Sequence[Known | None]) -> None:
        """Redis has not answered: it may have taken the debts, which then count twice rather than not at all."""
        for claim, one in zip(claims, known, strict=True):
            if one is not None:
                self._owe(claim, one.debt)

    def _remember(self, claims: tuple[Claim, ...], reading: Reading) -> None:
        self._offset = reading.now - self._local.clock()
        of, states = self._known, reading.states
        for index, claim in enumerate(claims):
            if claim.form != _LEASE:
                before = of.get(claim.counter)
                debt = 0.0 if before is None else before.debt
                if before is None and len(of) >= MAX_KNOWN:
                    _drop_oldest(of)
                of[claim.counter] = Known(reading.born, states[index], reading.now, debt)

    def _without(self, reservation: str, claims: tuple[Claim, ...], costs: tuple[float, ...]) -> Reading | None:
        """Admit by the share of this process."""
        if self._closed:
            return None
        reading = self._by_share(reservation, claims, costs)
        if reading.refused == ADMITTED and reservation:
            self._keep_alone(reservation, claims, costs)
        return reading

    def _by_share(self, reservation: str, claims: tuple[Claim, ...], costs: tuple[float, ...]) -> Reading:
        replicas = max(self._replicas(), 1)
        shares = tuple(self._share(claim, replicas) for claim in claims)
        return _whole(
            self._local.reserve(reservation, shares, costs, [self._floor(one) for one in claims]), claims, shares
        )

    def _keep_alone(self, reservation: str, claims: tuple[Claim, ...], costs: tuple[float, ...]) -> None:
        """Owe Redis what was admitted without it."""
        self.admitted_locally += 1
        self._hold(reservation, _Held(claims, costs))
        for claim, cost in zip(claims, costs, strict=True):
            if claim.form != _LEASE:
                self._owe(claim, cost)

    def _hold(self, reservation: str, held: _Held) -> None:
        if len(self._held) >= MAX_LOCAL:
            _drop_oldest(self._held)
        self._held[reservation] = held

    def _share(self, claim: Claim, replicas: int) -> Claim:
        """At least one unit: a caller with few requests shall get some."""
        if claim.form == _BUCKET:
            amount = max(claim.amount / replicas, 1.0)
            return replace(claim, amount=amount, span=claim.span * claim.amount / amount)
        if claim.form == _LEASE:
            return replace(claim, amount=max(claim.amount / replicas, 1.0))
        known = self._known.get(claim.counter)
        used = 0.0 if known is None else known.state
        return replace(claim, amount=used + max(claim.amount - used, 0.0) / replicas)

    def _floor(self, claim: Claim) -> Known | None:
        """The local counter begins where Redis was, by our clock."""
        known = self._known.get(claim.counter)
        if known is None or claim.form == _LEASE:
            return None
        shift = self._offset if claim.form == _BUCKET else 0.0
        return Known(-1.0, known.state - shift, known.at - self._offset)

    def _owe(self, claim: Claim, units: float) -> None:
        if units == 0:
            return
        before = self._known.get(claim.counter)
        if before is None:
            before = Known(-1.0, 0.0, 0.0)
        self._known[claim.counter] = replace(before, debt=before.debt + units)
        if len(self._debtors) < MAX_KNOWN:
            self._debtors[claim.counter] = claim


def _drop_oldest(found: dict[str, Any]) -> None:
    """A tenth at once: finding the first key takes as long as there were keys before it."""
    for name in list(islice(found, len(found) // 10 + 1)):
        del found[name]


def _whole(reading: Reading, claims: tuple[Claim, ...], shares: tuple[Claim, ...]) -> Reading:
    """The reading as one of the whole limits, by the share in use."""
    states = tuple(
        state + (claim.amount - share.amount) if claim.form != _BUCKET else state
        for state, claim, share in zip(reading.states, claims, shares, strict=True)
    )
    return Reading(reading.now, reading.refused, states, reading.born)
