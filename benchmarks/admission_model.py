"""Full engines and their callers as discrete events; the queue is the gateway's own, time is simulated.

An engine runs so many requests at once, each for the time of its prompt and of its tokens, and takes the others in the
order in which they came. That is what the queue is about; that prompts slow each other down in an engine is left out.
"""

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from aibrix_extproc.core.openai.wire.usage import Usage
from aibrix_extproc.core.routing.queue.classes import RequestClass
from aibrix_extproc.core.routing.queue.line import Ticket
from aibrix_extproc.core.routing.queue.model_queue import ModelQueue
from aibrix_extproc.core.routing.queue.shares import Room
from aibrix_extproc.core.routing.queue.work import WorkEstimates

ENGINES, SLOTS = 4, 8
PREFILL_SECONDS, DECODE_SECONDS = 50e-6, 0.02  # of a token
WARM_SECONDS: Final = 30.0  # that are not counted
LOOK_SECONDS: Final = 0.25  # as the gateway looks again
_BYTES_PER_TOKEN: Final = 4


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and for what: at random moments (`rate` a second), or `clients` that each wait for their answers."""

    name: str
    kind: RequestClass
    prompt: int  # tokens
    output: int
    rate: float = 0.0
    clients: int = 0

    @property
    def seconds(self) -> float:
        """That a request of it takes."""
        return self.prompt * PREFILL_SECONDS + self.output * DECODE_SECONDS


@dataclass(slots=True)
class Request:
    """One request and its times."""

    caller: Caller
    came_at: float
    engine: int = -1
    ended_at: float = 0.0


@dataclass(slots=True)
class Outcome:
    """Seconds of the answers of each caller, in order, and how busy the engines were."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    work: float = 0.0

    def quantile(self, caller: str, share: float) -> float:
        """Of a caller's answers, by rank."""
        ordered = sorted(self.seconds.get(caller, [0.0]))
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


class Model:
    """One run. Without the queue each request goes to the engine that has the fewest."""

    def __init__(self, callers: tuple[Caller, ...], seconds: float, *, queued: bool) -> None:
        self._seconds = seconds
        self._queue = ModelQueue(0.0) if queued else None
        self._estimates = WorkEstimates()
        self._draw = random.Random(7)
        self._load, self._running = [0] * ENGINES, [0] * ENGINES
        self._waiting: list[deque[Request]] = [deque() for _ in range(ENGINES)]
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._number = itertools.count()
        self.outcome = Outcome()
        for caller in callers:
            if caller.rate:
                self._later(0.0, lambda now, one=caller: self._come(one, now))  # type: ignore[misc]
            for client in range(caller.clients):
                self._later(client / 1000, lambda now, one=caller: self._ask(one, now))  # type: ignore[misc]

    def run(self) -> Outcome:
        """All events up to the end."""
        if self._queue is not None:
            self._later(0.0, self._look)
        while self._events and self._events[0][0] < 2 * self._seconds:
            now, _, event = heapq.heappop(self._events)
            event(now)
        self.outcome.work /= ENGINES * SLOTS * (self._seconds - WARM_SECONDS)
        return self.outcome

    def _later(self, at: float, event: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (at, next(self._number), event))

    def _come(self, caller: Caller, now: float) -> None:
        if now < self._seconds:
            self._later(now + self._draw.expovariate(caller.rate), lambda at: self._come(caller, at))
            self._ask(caller, now)

    def _ask(self, caller: Caller, now: float) -> None:
        if now >= self._seconds:
            return
        request = Request(caller, now)
        if self._queue is not None and not self._queue.may_pass(caller.name, caller.kind, self._room(), now):
            work = self._estimates.estimated(caller.name, caller.prompt * _BYTES_PER_TOKEN, None)
            self._queue.line.enter(Ticket(caller.name, caller.kind, work, 0, now, request=request))
            return
        self._place(request, now)

    def _room(self) -> Room:
        return Room(sum(max(SLOTS - load, 0) for load in self._load), ENGINES * SLOTS)

    def _place(self, request: Request, now: float) -> None:
        least = min(self._load)
        request.engine = self._draw.choice([number for number, load in enumerate(self._load) if load == least])
        self._load[request.engine] += 1
        if self._queue is not None:
            self._queue.shares.started(request.caller.name, now, batch=request.caller.kind is RequestClass.BATCH)
        if self._running[request.engine] < SLOTS:
            self._start(request, now)
        else:
            self._waiting[request.engine].append(request)

    def _start(self, request: Request, now: float) -> None:
        self._running[request.engine] += 1
        self._later(now + request.caller.seconds, lambda at: self._end(request, at))

    def _end(self, request: Request, now: float) -> None:
        caller, engine = request.caller, request.engine
        self._running[engine] -= 1
        self._load[engine] -= 1
        if request.came_at >= WARM_SECONDS:
            self.outcome.seconds.setdefault(caller.name, []).append(now - request.came_at)
        if WARM_SECONDS <= now < self._seconds:
            self.outcome.work += caller.seconds
        if self._waiting[engine]:
            self._start(self._waiting[engine].popleft(), now)
        if self._queue is not None:
            self._queue.shares.ended(caller.name, now, batch=caller.kind is RequestClass.BATCH)
            usage = Usage(caller.prompt, caller.output, 0)
            self._estimates.learn(caller.name, caller.prompt * _BYTES_PER_TOKEN, usage)
        if caller.clients:
            self._later(now, lambda at: self._ask(caller, at))
        self._let_go(now)

    def _let_go(self, now: float) -> None:
        while self._queue is not None and (ticket := self._queue.next(self._room(), now)) is not None:
            self._queue.go(ticket, now)
            self._place(ticket.request, now)

    def _look(self, now: float) -> None:
        self._let_go(now)
        if now < self._seconds:
            self._later(now + LOOK_SECONDS, self._look)
