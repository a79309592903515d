"""Requests that cannot be placed at once wait here: for a slot of an engine, or for their model to come or wake.

Who waits, and who goes next, is decided in `core/routing/queue`. Here are the waits themselves: each is a coroutine of
its request, which may be cancelled at any time. A request that goes at once costs what it takes to look at the model's
engines, and nothing where the queue is off.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Final, Protocol

from msgspec.structs import replace

from aibrix_extproc.app.fleet_store import FleetStore
from aibrix_extproc.app.parts.part import Meters, Part
from aibrix_extproc.app.parts.waking import Waking
from aibrix_extproc.app.queue_rooms import Rooms
from aibrix_extproc.app.queue_work import QueueWork
from aibrix_extproc.core.exchange.asks import Place, Placed, Refused
from aibrix_extproc.core.exchange.outputs import Assigned, Finished
from aibrix_extproc.core.exchange.records import Charge
from aibrix_extproc.core.fleet.gauge_book import GaugeBook
from aibrix_extproc.core.fleet.index import Pair
from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.fleet.model import Snapshot
from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.contract.operations import shown
from aibrix_extproc.core.routing.queue.classes import RequestClass, class_of
from aibrix_extproc.core.routing.queue.line import Ticket
from aibrix_extproc.core.routing.queue.model_queue import ModelQueue
from aibrix_extproc.core.routing.queue.shares import Room
from aibrix_extproc.core.routing.request import seconds_of
from aibrix_extproc.settings import QueueSettings

LAST_WORD_SECONDS: Final = 0.3  # before Envoy's patience ends a waiting request is refused with what is known
LOOK_SECONDS: Final = 0.25  # what changes by itself is looked at so often: shares, readings of gauges
PATIENCE_SHARE: Final = 0.8  # of what the client allows; the rest is for the answer
MAX_HELD: Final = 256  # names of `hold_models` that have a queue while nobody serves them

Attempt = Callable[[Place, float], Placed | Refused]
"""Place a request that has waited so many seconds."""


class Counts(Protocol):
    """The counters of the queue."""

    def waited_in_queue(self, kind: str, seconds: float) -> None:
        """A request of this class was placed from the queue."""

    def shed(self, reason: str) -> None:
        """A request was refused."""


@dataclass(frozen=True, slots=True)
class Waits:
    """The longest waits of a request, in seconds: at all (the dispatcher's deadline), and for a sleeping model."""

    longest_seconds: float
    wake_seconds: float = 0.0


class Waiting:
    """The request of a ticket. `wanted`: the model or adapter whose coming it waits for; empty: a slot is enough."""

    __slots__ = ("ask", "attempt", "future", "granted", "refused", "wanted")

    def __init__(self, ask: Place, attempt: Attempt, wanted: str, refused: Refused | None) -> None:
        self.ask = ask
        self.attempt = attempt
        self.wanted = wanted
        self.refused = refused  # the last answer of placement
        self.future: asyncio.Future[Placed | Refused] = asyncio.get_running_loop().create_future()
        self.granted: str | None = None  # the endpoint that it goes to, until its load counts


class Queue(Part):
    """One for a process; a queue of its own for each model. `clock`: monotonic seconds."""

    name = "queue"

    def __init__(
        self, settings: QueueSettings, store: FleetStore, load: LoadBook, gauges: GaugeBook, waits: Waits,
        waking: Waking | None = None, *, counts: Counts, clock: Callable[[], float],
    ) -> None:  # fmt: skip
        self._settings = settings
        self._store = store
        self._clock = clock
        self._waking = waking
        self._counts = counts
        self._seconds = max(min(settings.max_wait_seconds, waits.longest_seconds) - LAST_WORD_SECONDS, 0.0)
        self._wake_seconds = max(min(waits.wake_seconds, waits.longest_seconds) - LAST_WORD_SECONDS, 0.0)
        self._held = frozenset(settings.hold_models[:MAX_HELD])
        self._rooms = Rooms(settings.engine_requests, store, load, gauges, clock)
        self._queues: dict[str, ModelQueue] = {}
        self.work = QueueWork(self._queues)
        self._anyone = asyncio.Event()
        store.subscribe(self._on_snapshot)
        store.subscribe_changes(self._forget)

    # Asked by placing

    def place(self, ask: Place, attempt: Attempt) -> Placed | Refused | Awaitable[Placed | Refused]:
        """The placement, the refusal, or the wait for either."""
        if self._settings.enabled and ask.stored_response is None and not self._is_quiet(ask.query.model):
            found = self._rooms.of(ask.query.model)
            if found is not None:
                room, full = found
                if not self._passes(ask, room):
                    return self._wait(ask, attempt, "", None)
                ask = replace(ask, full=full) if full else ask
        answer = attempt(ask, 0.0)
        if type(answer) is Refused:
            wanted = self._wanted(ask, answer.problem)
            if wanted:
                return self._wait(ask, attempt, wanted, answer)
        return answer

    def _is_quiet(self, model: str) -> bool:
        queue = self._queues.get(model)
        return queue is not None and not queue.line and self._rooms.is_quiet(model)

    def _passes(self, ask: Place, room: Room) -> bool:
        kind = class_of(ask.caller, batch=ask.batch)
        return self._queue(ask.query.model).may_pass(ask.caller.name, kind, room, self._clock())

    def _wanted(self, ask: Place, problem: Problem) -> str:
        """The model or adapter whose coming may help a refused request; empty if none does."""
        demanded = None if self._waking is None else self._waking.demanded(ask, problem)
        if demanded is not None:
            return demanded
        model = ask.query.model
        comes = problem.key in ("model_not_ready", "model_not_found") and model in self._held
        return model if comes and ask.caller.may_use_model(model) else ""

    # The wait

    async def _wait(self, ask: Place, attempt: Attempt, wanted: str, refused: Refused | None) -> Placed | Refused:
        queue, now = self._queue(ask.query.model), self._clock()
        waiting = Waiting(ask, attempt, wanted, refused)
        kind = class_of(ask.caller, batch=ask.batch)
        size = ask.query.body_bytes
        ticket = Ticket(
            ask.caller.name, kind, self.work.estimated(ask), size, now,
            retried=ask.retries not in (None, "", "0"), request=waiting,
        )  # fmt: skip
        if not self._has_place(kind, size) or (wanted and not self._may_want(wanted)):
            return self._refusal(ticket, queue, "full")
        queue.line.enter(ticket)
        self._anyone.set()
        try:
            with self._asking(wanted):
                async with asyncio.timeout(self._patience(ask, wanted)):
                    answer = await waiting.future
            if type(answer) is Placed:
                self._counts.waited_in_queue(kind.value, self._clock() - now)
            return answer
        except TimeoutError:
            return self._refusal(ticket, queue, "deadline")
        finally:
            queue.line.leave(ticket)
            if waiting.granted is not None:
                self._rooms.release(waiting.granted)

    def _has_place(self, kind: RequestClass, size: int) -> bool:
        """Whether one more may wait. Requests of batches make room for others."""
        while not self._fits(size):
            last = None if kind is RequestClass.BATCH else self._last_batch()
            if last is None:
                return False
            queue, ticket = last
            queue.line.leave(ticket)
            self._answer(ticket, self._refusal(ticket, queue, "displaced"))
        return True

    def _fits(self, size: int) -> bool:
        lines = [queue.line for queue in self._queues.values()]
        waiting, held = sum(map(len, lines)), sum(line.size for line in lines)
        return waiting < self._settings.max_waiting and held + size <= self._settings.max_waiting_bytes

    def _last_batch(self) -> tuple[ModelQueue, Ticket] | None:
        last = ((queue, queue.line.last_batch()) for queue in self._queues.values())
        found = [(queue, ticket) for queue, ticket in last if ticket is not None]
        return max(found, key=lambda one: one[1].entered_at, default=None)

    def _may_want(self, wanted: str) -> bool:
        return wanted in self._held or self._waking is None or self._waking.may_wait

    def _asking(self, wanted: str) -> AbstractContextManager[object]:
        return self._waking.asking(wanted) if wanted and self._waking is not None else nullcontext()

    def _patience(self, ask: Place, wanted: str) -> float:
        longest = self._wake_seconds if wanted and wanted not in self._held else self._seconds
        patience = seconds_of(ask.patience)
        return longest if patience is None else min(longest, patience * PATIENCE_SHARE)

    def _refusal(self, ticket: Ticket, queue: ModelQueue, reason: str) -> Refused:
        waiting: Waiting = ticket.request
        self._counts.shed(reason)
        model = waiting.ask.query.model
        if waiting.wanted and waiting.refused is not None:
            refused = waiting.refused
            return refused if self._waking is None else self._waking.later(waiting.wanted, model, refused)
        seconds = queue.drain.retry_after(len(queue.line), self._clock())
        return Refused(Problem("engine_overloaded", {"model": shown(model)}, headers=(("retry-after", str(seconds)),)))

    # Who goes next

    def _let_go(self, model: str) -> None:
        """Answer those who need not wait any more."""
        queue = self._queues[model]
        while queue.line:
            found = self._rooms.of(model) if self._settings.enabled else None
            if found is None:
                self._try_all(queue)
                return
            room, full = found
            ticket = queue.next(room, self._clock())
            if ticket is None:
                return
            self._try(queue, ticket, full)
            queue.line.leave(ticket)  # placed or refused: with room there is nothing more to wait for

    def _try_all(self, queue: ModelQueue) -> None:
        """Slots are unlimited, or there are none."""
        for ticket in tuple(queue.line):
            self._try(queue, ticket, frozenset())

    def _try(self, queue: ModelQueue, ticket: Ticket, full: frozenset[str]) -> None:
        waiting: Waiting = ticket.request
        if waiting.future.done():  # the client has left in this turn of the loop
            queue.line.leave(ticket)
            return
        now = self._clock()
        ask = replace(waiting.ask, full=full) if full else waiting.ask
        answer = waiting.attempt(ask, now - ticket.entered_at)
        if type(answer) is Refused:
            waiting.refused = answer
            if not full and self._wanted(waiting.ask, answer.problem):
                return
        elif type(answer) is Placed:
            waiting.granted = answer.placement.first.identity
            self._rooms.grant(waiting.granted)
            queue.go(ticket, now)
        self._answer(ticket, answer)

    def _answer(self, ticket: Ticket, answer: Placed | Refused) -> None:
        future = ticket.request.future
        if not future.done():
            future.set_result(answer)

    def _queue(self, model: str) -> ModelQueue:
        queue = self._queues.get(model)
        if queue is None:
            queue = self._queues[model] = ModelQueue(self._clock())
        return queue

    def _look(self) -> None:
        if not self._anyone.is_set():
            return
        for model in [model for model, queue in self._queues.items() if queue.line]:
            self._let_go(model)

    async def run(self) -> None:
        """Look again and again while anybody waits."""
        while True:
            await self._anyone.wait()
            await asyncio.sleep(LOOK_SECONDS)
            self._look()
            if not any(queue.line for queue in self._queues.values()):
                self._anyone.clear()

    def end_after(self, seconds: float) -> None:
        """Refuse all that wait a moment before the process ends in so many seconds: a 503 is better than no answer."""
        asyncio.get_running_loop().call_later(max(seconds - LAST_WORD_SECONDS, 0.0), self._end)

    def _end(self) -> None:
        for queue in self._queues.values():
            for ticket in tuple(queue.line):
                queue.line.leave(ticket)
                self._answer(ticket, self._refusal(ticket, queue, "shutdown"))

    # Facts

    def observers(self) -> list[tuple[type, Callable[[Any], None]]]:
        """The observers by which the queue learns, if it holds requests back."""
        if not self._settings.enabled:
            return []
        return [(Assigned, self.assigned), (Finished, self.finished), (Charge, self.work.charged)]

    def assigned(self, fact: Assigned) -> None:
        """A request goes to an engine. One that was placed by its path has no query, and no model when it ends."""
        if fact.query is not None:
            self._queue(fact.query.model).shares.started(fact.query.caller, self._clock(), batch=fact.batch)

    def finished(self, fact: Finished) -> None:
        """A slot may be free."""
        if fact.assigned_to is not None and fact.model is not None:
            queue = self._queues.get(fact.model)
            if queue is not None:
                queue.shares.ended(fact.caller, self._clock(), batch=fact.batch)
        self._look()

    def _on_snapshot(self, _: Snapshot) -> None:
        self._look()

    def _forget(self, pairs: tuple[Pair, ...], snapshot: Snapshot) -> None:
        self._rooms.forget(old.identity for old, new in pairs if old is not None and new is None)
        for model in [name for name, queue in self._queues.items() if not queue.line and name not in snapshot.by_model]:
            del self._queues[model]

    # What operators see

    def report(self) -> object:
        """The requests that wait, by model."""
        return {model: dict(queue.line.lengths) for model, queue in self._queues.items() if queue.line} or None

    def register(self, metrics: Meters) -> None:
        """Lengths by model and class."""
        metrics.gauges("aibrix_extproc_queue_length", self._lengths)

    def _lengths(self) -> Iterator[tuple[tuple[str, str], float]]:
        for model, queue in self._queues.items():
            for kind in RequestClass:
                yield (model, kind.value), queue.line.lengths[kind]
