"""Reserves what requests of limited callers ask for, and settles it when they have ended."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, Protocol

from msgspec.structs import replace

from aibrix_extproc.core.access.limits.answers import (
    Headers,
    anthropic_headers,
    never_fits,
    none_fits,
    openai_headers,
    refusal,
    too_large,
)
from aibrix_extproc.core.access.limits.book import OF_ONE, LimitBook, Plan
from aibrix_extproc.core.access.limits.counters import ADMITTED, Claim, Form, Reading, remaining
from aibrix_extproc.core.access.limits.estimates import NOTHING, Demand, Estimator
from aibrix_extproc.core.access.limits.estimates import Outcome as Used
from aibrix_extproc.core.exchange.asks import Refused, Reserve, Reserved
from aibrix_extproc.core.exchange.outputs import Finished, Outcome
from aibrix_extproc.core.exchange.records import Charge, StreamEnd
from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.contract.operations import Action, ModelIn, Operation, Role, Stream, UsageIn
from aibrix_extproc.core.placing import Caller

logger = logging.getLogger(__name__)

DEGRADED: Final = ("x-aibrix-degraded", "limits")  # for admins: Redis is away
WARNING: Final = "x-aibrix-limit-warning"  # names of soft limits that are exceeded
MAX_EXCEEDED: Final = 100_000
_GENERATES: Final = frozenset({Stream.DATA_DONE, Stream.TYPED, Stream.ANTHROPIC})
_UNREACHED: Final = frozenset({Outcome.INTERNAL_ERROR, Outcome.REFUSED})


class Counting(Protocol):
    """Counters of this process, or shared ones."""

    @property
    def is_away(self) -> bool:
        """Whether the shared ones cannot be asked."""
        ...

    def clock(self) -> float:
        """Microseconds since the counters' EPOCH."""
        ...

    def reserve(
        self, reservation: str, claims: tuple[Claim, ...], costs: tuple[float, ...]
    ) -> Reading | Awaitable[Reading | None] | None:
        """The reading, a wait for it, or None: nobody is admitted."""
        ...

    def peek(self, claims: tuple[Claim, ...], *, fresh: bool = False) -> Reading:
        """What is known, without asking. `fresh`: counters of which nothing is known of this moment count as empty."""
        ...

    def settle(self, reservation: str, actual: Sequence[float] | None) -> None:
        """Replace what was reserved."""
        ...

    def release(self, reservation: str) -> None:
        """End the leases of a reservation."""
        ...


class Limiter:
    """Answers `Reserve`; observes `Finished` and `Charge`. `serves`: whether the fleet has a model."""

    def __init__(
        self,
        book: Callable[[], LimitBook],
        counters: Counting,
        estimator: Estimator,
        serves: Callable[[str], bool],
        *,
        issuer: str,
        metering: bool,
        limited: Callable[[str], None],
        warned: Callable[[str], None],
    ) -> None:
        self._book = book
        self._counters = counters
        self._estimator = estimator
        self._serves = serves
        self._issuer = issuer
        self._metering = metering
        self._limited = limited
        self._warned = warned
        self._number = 0
        self._full: set[tuple[str, str]] = set()  # callers with keys to whom a request was too many
        self._exceeded: set[str] = set()  # counters of soft limits that were logged
        self.running: dict[str, tuple[str, ...]] = {}  # reservations with the counters of their leases

    def limits_of(self, caller: Caller) -> Callable[[bool], Headers] | None:
        """For a limited caller what is known of its limits, in Anthropic's form or OpenAI's."""
        if not self._book().limits(caller.name, caller.key_id):
            return None
        return partial(self._known_headers, caller)

    def allowed(self, caller: Caller, model: str = "", *, soft: bool = False) -> dict[str, float]:
        """The limits of a caller by name; with a model those that hold for it beside all others."""
        book, clock = self._book(), self._counters.clock
        if model and not book.names_models:
            return {}
        found = book.amounts(caller.name, caller.key_id, "", clock, soft=soft)
        if not model:
            return found
        of_model = book.amounts(caller.name, caller.key_id, model, clock, soft=soft)
        return {name: amount for name, amount in of_model.items() if found.get(name) != amount}

    def used_up(self, caller: Caller, operation: Operation) -> Problem | None:
        """The refusal of a request whose body need not be read: its caller or its key may make none now.

        Only after such a refusal, and by what is known of this moment: requests that are let in meet all their limits.
        """
        if (caller.name, caller.key_id) not in self._full:
            return None
        plan = self._book().plan(caller.name, caller.key_id, "", self._counters.clock)
        reading = self._counters.peek(plan.claims, fresh=True)
        index = none_fits(plan, reading)
        if index is None:
            self._full.discard((caller.name, caller.key_id))
            return None
        self._limited(plan.terms[index].name)
        refused = replace(reading, refused=index)
        headers = self._headers(plan, refused, caller, anthropic=operation.anthropic)
        return refusal(plan, refused, (1.0,) * len(plan.claims), "", headers)

    def reserve(self, ask: Reserve) -> Reserved | Refused | Awaitable[Reserved | Refused]:
        """Take from all limits of the request, or say which one refuses."""
        caller, model, operation = ask.caller, ask.model, ask.operation
        if model and not self._serves(model):
            return Reserved("")  # placement refuses it; what a client writes must not make counters
        book = self._book()
        plan = book.plan(caller.name, caller.key_id, model, self._counters.clock)
        if not plan.claims:
            return Reserved("")
        routed = operation.action is Action.ROUTE
        has_audio = operation.model_in is ModelIn.FORM
        demand = Demand(
            model,
            caller.name,
            ask.body_bytes,
            is_generated=routed and operation.stream in _GENERATES,
            has_tokens=routed and not has_audio and operation.usage_in is not UsageIn.NONE,
            max_output=ask.sizes[1],
            has_media=ask.has_media,
            has_audio=routed and has_audio,
        )
        demanded = self._estimator.demanded(demand, book.prices if plan.needs_cost else None)
        costs = tuple([demanded[quantity] for quantity in plan.quantities])
        index = never_fits(plan, costs)
        if index is not None:
            headers = self._headers(plan, self._counters.peek(plan.claims), caller, anthropic=operation.anthropic)
            return Refused(too_large(plan, index, costs, model, headers))
        self._number += 1
        reservation = f"{self._issuer}-{self._number}"
        reading = self._counters.reserve(reservation, plan.claims, costs)
        if type(reading) is Reading:
            return self._answered(reading, reservation, plan, costs, ask)
        if reading is None:
            return Refused(Problem("limits_unavailable"))
        return self._waited(reading, reservation, plan, costs, ask)  # type: ignore[arg-type]

    def finished(self, fact: Finished) -> None:
        """Refund what reached no engine or failed there; end the leases of the rest, which the charge settles."""
        reservation = fact.reservation
        if not reservation:
            return
        has_leases = self.running.pop(reservation, None) is not None
        if _has_failed(fact):
            self._counters.settle(reservation, NOTHING)
        elif fact.placement is None or not self._metering:
            self._counters.settle(reservation, None)
        elif has_leases:
            self._counters.release(reservation)

    def charged(self, charge: Charge) -> None:
        """Learn from a charge, and settle the reservation that it names."""
        book = self._book()
        if book.is_empty and not charge.reservation:
            return
        usage = charge.usage
        used = Used(
            charge.model,
            charge.caller,
            charge.status,
            charge.bytes_in,
            ended_early=charge.status == 0 or charge.end not in (None, StreamEnd.COMPLETE),
            events=charge.events,
            input_tokens=None if usage is None else usage.input_tokens,
            cached_tokens=0 if usage is None else usage.cached_tokens,
            output_tokens=0 if usage is None else usage.output_tokens,
            audio_seconds=charge.audio_seconds,
        )
        self._estimator.learn(used)
        if charge.reservation:
            self._counters.settle(charge.reservation, self._estimator.actual(used, book.prices))

    async def _waited(
        self,
        waiting: Awaitable[Reading | None],
        reservation: str,
        plan: Plan,
        costs: tuple[float, ...],
        ask: Reserve,
    ) -> Reserved | Refused:
        reading = None
        try:
            reading = await waiting
        finally:
            if reading is None:  # the client left, or nobody is admitted
                self._counters.settle(reservation, NOTHING)
        if reading is None:
            return Refused(Problem("limits_unavailable"))
        return self._answered(reading, reservation, plan, costs, ask)

    def _answered(
        self, reading: Reading, reservation: str, plan: Plan, costs: tuple[float, ...], ask: Reserve
    ) -> Reserved | Refused:
        headers = self._headers(plan, reading, ask.caller, anthropic=ask.operation.anthropic)
        if reading.refused != ADMITTED:
            if plan.terms[reading.refused].row.quantity in OF_ONE:
                self._full.add((ask.caller.name, ask.caller.key_id))
            self._limited(plan.terms[reading.refused].name)
            return Refused(refusal(plan, reading, costs, ask.model, headers))
        if plan.has_leases:
            self.running[reservation] = tuple(claim.counter for claim in plan.claims if claim.form == Form.LEASE)
        return Reserved(reservation, headers)

    def _known_headers(self, caller: Caller, anthropic: bool) -> Headers:
        plan = self._book().plan(caller.name, caller.key_id, "", self._counters.clock)
        return self._headers(plan, self._counters.peek(plan.claims), caller, anthropic=anthropic)

    def _headers(self, plan: Plan, reading: Reading, caller: Caller, *, anthropic: bool) -> Headers:
        found = anthropic_headers(plan, reading) if anthropic else openai_headers(plan, reading)
        if plan.has_soft:
            found += self._warnings(plan, reading, caller)
        if self._counters.is_away and caller.role is Role.ADMIN:
            found += (DEGRADED,)
        return found

    def _warnings(self, plan: Plan, reading: Reading, caller: Caller) -> Headers:
        """Names of the soft limits that are exceeded; each is logged when it becomes so."""
        exceeded = []
        for term, state in zip(plan.terms, reading.states, strict=True):
            if not term.claim.soft:
                continue
            if remaining(term.claim, state, reading.now) > 0:
                self._exceeded.discard(term.claim.counter)
                continue
            exceeded.append(term.name)
            self._warned(term.name)
            if term.claim.counter not in self._exceeded and len(self._exceeded) < MAX_EXCEEDED:
                self._exceeded.add(term.claim.counter)
                logger.warning("soft limit exceeded", extra={"caller": caller.name, "limit": term.name})
        return ((WARNING, ", ".join(exceeded)),) if exceeded else ()


def _has_failed(fact: Finished) -> bool:
    """Whether nothing reached an engine, or the engine failed before the first byte. A time that ran out has a cost."""
    if fact.status >= 500:
        return fact.problem != "timeout"
    if fact.outcome is Outcome.CANCELLED:
        return fact.placed_at is None
    return fact.outcome in _UNREACHED and fact.placed_at is None and fact.problem is not None
