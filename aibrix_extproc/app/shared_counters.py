"""Counters in Redis, and what counts while Redis is away: this process's share, or nothing.

Each answer of Redis is remembered. While it is away, the share of this process continues from there: of what was left,
and of what comes back, one part for each live gateway. Afterwards Redis gets what was admitted meanwhile as a debt, and
what it has lost itself by a restart, so that no caller gets a burst.
"""

from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Any, Final

from msgspec.structs import replace

from aibrix_extproc.adapters.counters.memory import MemoryCounters
from aibrix_extproc.adapters.counters.redis import RedisCounters
from aibrix_extproc.core.access.limits.counters import ADMITTED, Claim, Form, Known, Reading

MAX_KNOWN: Final = 100_000
MAX_LOCAL: Final = 100_000
REPAID_AT_ONCE: Final = 50
_BUCKET, _LEASE = int(Form.BUCKET), int(Form.LEASE)


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
        self._held: dict[str, tuple[tuple[Claim, ...], tuple[float, ...]]] = {}  # admitted without Redis
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
        known = self._sent(claims)
        waiting = self.redis.reserve(reservation, claims, costs, known)
        if waiting is None:
            self._take_back(claims, known)
            return self._without(reservation, claims, costs)
        return self._asked(waiting, reservation, claims, costs, known)

    def peek(self, claims: tuple[Claim, ...]) -> Reading:
        """What is known of counters, without asking."""
        now = self.clock()
        found = [self._known.get(claim.counter) for claim in claims]
        empty = [now if claim.form == _BUCKET else 0.0 for claim in claims]
        states = tuple(at_rest if one is None else one.state for one, at_rest in zip(found, empty, strict=True))
        return Reading(now, ADMITTED, states, (0.0,) * len(claims))

    def settle(self, reservation: str, actual: Sequence[float] | None) -> None:
        """Replace what was reserved."""
        held = self._held.pop(reservation, None)
        if held is None:
            self.redis.settle(reservation, actual)
            return
        self._local.settle(reservation, actual)
        if actual is not None:
            claims, costs = held
            for claim, cost in zip(claims, costs, strict=True):
                if claim.form != _LEASE:
                    self._owe(claim, actual[claim.quantity] - cost)

    def release(self, reservation: str) -> None:
        """End the leases of a reservation."""
        if reservation in self._held:
            self._local.release(reservation)
        else:
            self.redis.release(reservation)

    async def renew(self, counter: str, members: Sequence[str]) -> None:
        """Let members expire later, here and in Redis."""
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
            if waiting is None or await self._asked(waiting, "", claims, nothing, known) is None:
                return

    async def _asked(
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
            return self._without(reservation, claims, costs) if reservation else None
        self._offset = reading.now - self._local.clock()
        for index, claim in enumerate(claims):
            if claim.form != _LEASE:
                self._remember(claim.counter, reading, index)
        return reading

    def _sent(self, claims: tuple[Claim, ...]) -> list[Known | None]:
        """What is known of counters. A debt goes with one request only: others may be on their way at the same time."""
        known = [self._known.get(claim.counter) for claim in claims]
        if self._debtors:
            for claim, one in zip(claims, known, strict=True):
                if one is not None and one.debt != 0:
                    self._known[claim.counter] = replace(one, debt=0.0)
                    self._debtors.pop(claim.counter, None)
        return known

    def _take_back(self, claims: tuple[Claim, ...], known: Sequence[Known | None]) -> None:
        """Redis has not answered: it may have taken the debts, which then count twice rather than not at all."""
        for claim, one in zip(claims, known, strict=True):
            if one is not None:
                self._owe(claim, one.debt)

    def _remember(self, counter: str, reading: Reading, index: int) -> None:
        before = self._known.get(counter)
        debt = 0.0 if before is None else before.debt
        if before is None and len(self._known) >= MAX_KNOWN:
            _drop_oldest(self._known)
        self._known[counter] = Known(reading.births[index], reading.states[index], reading.now, debt)

    def _without(self, reservation: str, claims: tuple[Claim, ...], costs: tuple[float, ...]) -> Reading | None:
        """Admit by the share of this process."""
        if self._closed:
            return None
        replicas = max(self._replicas(), 1)
        shares = tuple(self._share(claim, replicas) for claim in claims)
        floors = [self._floor(claim) for claim in claims]
        reading = self._local.reserve(reservation, shares, costs, floors)
        if reading.refused == ADMITTED and reservation:
            self.admitted_locally += 1
            if len(self._held) >= MAX_LOCAL:
                _drop_oldest(self._held)
            self._held[reservation] = (claims, costs)
            for claim, cost in zip(claims, costs, strict=True):
                if claim.form != _LEASE:
                    self._owe(claim, cost)
        return _whole(reading, claims, shares)

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
    return Reading(reading.now, reading.refused, states, reading.births)
