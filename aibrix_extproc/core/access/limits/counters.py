"""Counters of limits: reserve several at once, settle, release. A state machine; the time is an argument.

The script in `adapters/counters/redis_script.py` does the same operations on doubles in the same order. Times are
microseconds since EPOCH, so that a double holds fractions of them. All counters may be lost at once, by a restart of
what holds them. So they have a birth, and a counter also adds up what was taken from it. A process that knows a state
of an earlier birth raises the counter to that state and what was taken since, in whatever order processes come.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import Final

import msgspec

EPOCH: Final = 1_767_225_600  # seconds: 2026-01-01 UTC
ADMITTED: Final = -1
NEVER: Final = -1.0
TOLERANCE: Final = 1.0  # microseconds: rounding must not refuse the last unit of a full bucket


class Form(IntEnum):
    """The algorithm of a counter.

    A bucket is one number: the time at which it is full again. A unit that is taken moves that time by `span`, one that
    is given back moves it back, and time itself fills the bucket. A window counts what was used until its end. A lease
    counts members, each until it expires.
    """

    BUCKET = 0
    WINDOW = 1
    LEASE = 2


_BUCKET, _WINDOW, _LEASE = int(Form.BUCKET), int(Form.WINDOW), int(Form.LEASE)


class Claim(msgspec.Struct, frozen=True, gc=False):
    """One counter that a request takes from."""

    counter: str
    form: int  # a Form
    quantity: int  # its place among the actual amounts of a settlement
    amount: float  # units that may be used
    span: float  # of a bucket: microseconds in which one unit comes back; of a window: its end
    soft: bool = False  # never refuses


class Known(msgspec.Struct, frozen=True, gc=False):
    """A process's view of a counter that may have been lost, and what it admitted by itself meanwhile."""

    born: float  # the birth of all counters at the time of `state`; negative: `state` has what was taken since, too
    state: float
    at: float
    debt: float = 0.0  # units


class Reading(msgspec.Struct, frozen=True, gc=False):
    """The outcome of a reservation. States are those after it, or those that refused it."""

    now: float
    refused: int  # index of the claim with the longest wait, or ADMITTED
    states: tuple[float, ...]  # of a bucket when it is full, of a window what is used, of a lease its members
    born: float  # when the first reservation was made since all counters were lost
    mended: int = 0  # counters that held something else, and began anew


class _Held(msgspec.Struct, frozen=True, gc=False):
    claims: tuple[Claim, ...]
    costs: tuple[float, ...]
    expires: float


_Stored = tuple[float, float, float]  # state, at, taken: as states are, microseconds or units
_Present = tuple[float, float]  # state, taken


class Counters:
    """All counters of one process, or of one Redis."""

    def __init__(self) -> None:
        self._states: dict[str, tuple[_Stored, float]] = {}  # and when each may be forgotten
        self._leases: dict[str, dict[str, float]] = {}
        self._held: dict[str, _Held] = {}
        self._to_prune: list[str] = []
        self._born = NEVER

    def __len__(self) -> int:
        return len(self._states) + len(self._leases) + len(self._held)

    def reserve(
        self,
        now: float,
        reservation: str,
        claims: tuple[Claim, ...],
        costs: tuple[float, ...],
        *,
        keep: float,
        lease: float,
        known: Sequence[Known | None] | None = None,
    ) -> Reading:
        """Take all costs, or none if one claim that is not soft refuses.

        `keep`: microseconds for which the reservation may be settled; `lease`: until its members expire.
        """
        seen: list[_Present] = []
        refused, longest = ADMITTED, -1.0
        stored = self._states
        if self._born == NEVER:
            self._born = now
        for index, claim in enumerate(claims):
            cost, found = costs[index], stored.get(claim.counter)
            if found is not None and claim.form == _BUCKET and known is None and found[0][1] <= now < found[1]:
                (state, _, taken), _ = found  # the usual case, as `_current` has it
                wait = (state + cost * claim.span) - (now + claim.amount * claim.span)
                if wait <= TOLERANCE:
                    wait = -1.0
            elif claim.form == _LEASE:
                state, taken = float(self._members(claim.counter, now)), 0.0
                wait = 0.0 if state + cost > claim.amount else -1.0
            else:
                state, taken = self._current(claim, now, None if known is None else known[index])
                wait = _wait(claim, state, cost, now)
            seen.append((state, taken))
            if wait > longest and cost > 0 and not claim.soft:
                refused, longest = index, wait
        if refused == ADMITTED:
            self._take(now, reservation, claims, costs, seen, lease)
            if reservation:
                self._held[reservation] = _Held(claims, costs, now + keep)
        return Reading(now, refused, tuple([one[0] for one in seen]), self._born)

    def _take(
        self,
        now: float,
        reservation: str,
        claims: tuple[Claim, ...],
        costs: tuple[float, ...],
        seen: list[_Present],
        lease: float,
    ) -> None:
        for index, claim in enumerate(claims):
            cost, (state, taken) = costs[index], seen[index]
            if claim.form == _LEASE:
                seen[index] = state + cost, taken
                if cost > 0:
                    self._leases.setdefault(claim.counter, {})[reservation] = now + lease
            elif cost:
                units = cost * claim.span if claim.form == _BUCKET else cost
                state, taken = state + units, taken + units
                seen[index] = state, taken
                self._states[claim.counter] = (
                    (state, now, taken),
                    state if claim.form == _BUCKET else claim.span,
                )

    def settle(self, now: float, reservation: str, actual: Sequence[float] | None) -> bool:
        """Replace what was reserved by what was used, None for as much. False if it was settled before."""
        held = self._held.pop(reservation, None)
        if held is None or held.expires <= now:
            return False
        for claim, cost in zip(held.claims, held.costs, strict=True):
            if claim.form == _LEASE:
                self._leave(claim.counter, reservation)
            elif actual is not None and actual[claim.quantity] != cost:
                self._adjust(claim, actual[claim.quantity] - cost, now)
        return True

    def release(self, reservation: str) -> None:
        """End the leases of a reservation, which may still be settled."""
        held = self._held.get(reservation)
        if held is not None:
            for claim in held.claims:
                if claim.form == _LEASE:
                    self._leave(claim.counter, reservation)

    def renew(self, now: float, counter: str, members: Sequence[str], lease: float) -> int:
        """Let the members expire later, also those that were lost. Returns how many there are."""
        of = self._leases.setdefault(counter, {})
        for member in members:
            of[member] = now + lease
        return self._members(counter, now)

    def prune(self, now: float, most: int) -> None:
        """Forget what is as good as new, looking at a few counters and reservations at a time."""
        # Not by the first key of a dictionary: finding it takes as long as there were keys before it.
        if not self._to_prune:
            self._to_prune = [*self._states, *self._held, *self._leases]
        for _ in range(min(most, len(self._to_prune))):
            name = self._to_prune.pop()
            found, held = self._states.get(name), self._held.get(name)
            if found is not None and found[1] <= now:
                del self._states[name]
            if held is not None and held.expires <= now:
                del self._held[name]
            if name in self._leases:
                self._members(name, now)

    def _current(self, claim: Claim, now: float, known: Known | None) -> _Present:
        """The state now, and what was taken from the counter."""
        bucket, changed = claim.form == _BUCKET, False
        found = self._states.get(claim.counter)
        if found is None or found[1] <= now:
            state, taken = 0.0, 0.0
        else:
            (state, at, taken), _ = found
            if bucket and now < at:
                state -= at - now  # the clock was set back: the bucket stays as full as it was
                changed = True
        if known is not None and known.born != self._born:
            floor = known.state - (known.at - now) if bucket and now < known.at else known.state
            if known.born >= 0 and (floor > now or not bucket):
                floor += taken
            state = max(state, floor)
            changed = True
        if bucket:
            state = max(state, now)
        if known is not None and known.debt != 0:
            units = known.debt * claim.span if bucket else known.debt
            state, taken = state + units, taken + units
            changed = True
        if changed:
            self._store(claim, state, now, taken)
        return state, taken

    def _adjust(self, claim: Claim, delta: float, now: float) -> None:
        if claim.form == _WINDOW and claim.span <= now:
            return
        state, taken = self._current(claim, now, None)
        units = delta * claim.span if claim.form == _BUCKET else delta
        state = max(now if claim.form == _BUCKET else 0.0, state + units)
        self._store(claim, state, now, taken + units)

    def _store(self, claim: Claim, state: float, now: float, taken: float) -> None:
        expires = state if claim.form == _BUCKET else claim.span
        if expires > now:
            self._states[claim.counter] = ((state, now, taken), expires)
        else:
            self._states.pop(claim.counter, None)

    def _members(self, counter: str, now: float) -> int:
        of = self._leases.get(counter)
        if of is None:
            return 0
        for member in [member for member, expires in of.items() if expires <= now]:
            del of[member]
        if not of:
            del self._leases[counter]
        return len(of)

    def _leave(self, counter: str, member: str) -> None:
        of = self._leases.get(counter)
        if of is not None:
            of.pop(member, None)
            if not of:
                del self._leases[counter]


def _wait(claim: Claim, state: float, cost: float, now: float) -> float:
    """Microseconds until the cost fits; negative if it does."""
    if claim.form == _BUCKET:
        excess = (state + cost * claim.span) - (now + claim.amount * claim.span)
        return excess if excess > TOLERANCE else -1.0
    return max(claim.span - now, 0.0) if state + cost > claim.amount else -1.0


def used(claim: Claim, state: float, now: float) -> float:
    """Units in use, by the state of a reading."""
    return max(0.0, state - now) / claim.span if claim.form == _BUCKET else state


def remaining(claim: Claim, state: float, now: float) -> float:
    """Units that are left; never negative."""
    return max(0.0, claim.amount - used(claim, state, now))


def full_after(claim: Claim, state: float, now: float) -> float:
    """Microseconds until nothing is used; 0 for leases, whose end nobody knows."""
    if claim.form == _LEASE:
        return 0.0
    return max(0.0, (state if claim.form == _BUCKET else claim.span) - now)


def fits_after(claim: Claim, state: float, cost: float, now: float) -> float:
    """Microseconds until a refused cost fits."""
    return max(0.0, _wait(claim, state, cost, now))
