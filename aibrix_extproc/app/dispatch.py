"""Sends asks to their handlers, and facts and charges to their observers, each by a table of types.

A handler gives the answer, or something to wait for. Every wait has a deadline, shorter than the time that Envoy
waits for us, and a row of ERRORS for the case that the deadline passes.
"""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from aibrix_extproc.app.authenticator import Authenticator
from aibrix_extproc.app.body_reading import BodyReading
from aibrix_extproc.app.directory import Directory
from aibrix_extproc.app.limiting import Limiter
from aibrix_extproc.app.parts.prefills import Prefills
from aibrix_extproc.app.placing import Placing
from aibrix_extproc.core.exchange.asks import (
    ANSWERS,
    Answer,
    Ask,
    Authenticate,
    Describe,
    Pending,
    Place,
    Prefill,
    PrefillDone,
    Read,
    ReadLarge,
    Refused,
    Reserve,
    Reserved,
)
from aibrix_extproc.core.exchange.outputs import Fact, Phase
from aibrix_extproc.core.exchange.records import Charge, ExchangeRecord
from aibrix_extproc.core.openai.contract.errors import Problem

logger = logging.getLogger(__name__)

DEADLINE_SECONDS: Final = 4.0  # Envoy waits five seconds for a message to be answered
OVERDUE: Final = "decision_timeout"


@dataclass(frozen=True, slots=True)
class Handler:
    """The handler of one type of ask."""

    answer: Callable[[Any], Answer | Awaitable[Answer]]
    deadline_seconds: float = DEADLINE_SECONDS  # for an answer that is waited for
    overdue: str = OVERDUE  # the row of ERRORS when it does not come


Observed = Fact | Charge | ExchangeRecord
Observer = tuple[type[Observed], Callable[[Any], None]]
"""Which type of facts, charges or records, and what observes it."""


def handlers(
    authenticator: Authenticator,
    directory: Directory,
    placing: Placing,
    bodies: BodyReading,
    limiter: Limiter | None = None,
    *,
    place_seconds: float = DEADLINE_SECONDS,
    prefills: Prefills | None = None,
    prefill_seconds: float = DEADLINE_SECONDS,
) -> Mapping[type[Ask], Handler]:
    """A row for every ask. `place_seconds`: how long a placement may wait; `prefill_seconds`: the same of a prefill."""
    return {
        Authenticate: Handler(authenticator.authenticate),
        Describe: Handler(directory.describe),
        Place: Handler(placing.place, place_seconds),
        Prefill: Handler(_computed_there if prefills is None else prefills.prefill, prefill_seconds),
        Reserve: Handler(_unlimited if limiter is None else limiter.reserve, overdue="limits_unavailable"),
        Read: Handler(bodies.read, overdue="gateway_busy"),
        ReadLarge: Handler(bodies.read_large, bodies.large_seconds, overdue="gateway_busy"),
    }


def _computed_there(_: Prefill) -> PrefillDone:
    return PrefillDone(0.0)


def _unlimited(_: Reserve) -> Reserved:
    return Reserved("")


class Dispatcher:
    """Fits `adapters.extproc.interfaces.Dispatcher`. No wait is longer than `longest_wait_seconds`."""

    def __init__(
        self,
        handlers: Mapping[type[Ask], Handler],
        observers: Iterable[Observer],
        *,
        longest_wait_seconds: float,
        timed: Callable[[Phase, float], None],
        bug: Callable[[], None],
    ) -> None:
        self._handlers = handlers
        self._answers = {ask: handler.answer for ask, handler in handlers.items()}
        self._longest_wait_seconds = longest_wait_seconds
        self._observers: dict[type, list[Callable[[Any], None]]] = {}
        for fact, observe in observers:
            self._observers.setdefault(fact, []).append(observe)
        self.timed = timed
        self.bug = bug

    def answer(self, ask: Ask) -> Answer | Pending:
        """The answer of the ask's handler, or what to wait for."""
        answer: Any = self._answers[type(ask)](ask)
        if type(answer) in ANSWERS:
            return answer  # type: ignore[no-any-return]
        handler = self._handlers[type(ask)]
        return pending(answer, min(handler.deadline_seconds, self._longest_wait_seconds), handler.overdue)

    def observes(self, kind: type[Observed]) -> bool:
        """Whether anything observes this type; what is not observed need not be made."""
        return kind in self._observers

    def observe(self, what: Observed) -> None:
        """Call every observer of its type, in their order. One that fails does not stop the next."""
        for observe in self._observers.get(type(what), ()):
            try:
                observe(what)
            except Exception:
                logger.exception("internal error of an observer", extra={"of": type(what).__name__})
                self.bug()


def pending(waiting: Awaitable[Answer], seconds: float, overdue: str = OVERDUE) -> Pending:
    """An answer that is waited for, with a deadline. `overdue`: the row of ERRORS when it does not come."""
    return Pending(partial(_bounded, waiting, seconds, overdue), seconds, partial(_drop, waiting))


async def _bounded(waiting: Awaitable[Answer], seconds: float, overdue: str) -> Answer:
    """The answer, or the refusal at its deadline."""
    deadline = asyncio.timeout(seconds)
    try:
        async with deadline:
            return await waiting
    except TimeoutError:
        if not deadline.expired():
            raise
        return Refused(Problem(overdue))
    finally:
        # It refers to the task. A cancelled task refers to this frame by its exception, so this would be a cycle.
        del deadline


def _drop(waiting: Awaitable[Answer]) -> None:
    if inspect.iscoroutine(waiting):
        waiting.close()
