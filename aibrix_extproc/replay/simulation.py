"""The simulation: arrivals, engines and routers in simulated time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from random import Random
from typing import Final, Protocol

from aibrix_extproc.replay.engine_model import NEVER, BatchingEngine, EngineModel, EngineShape, PrefillQueue, Visit
from aibrix_extproc.replay.trace import Request, Trace

CHARGE_SECONDS: Final = 1.0  # after the end of an exchange, at most, its entry of the access log is there
_PROGRESS: Final = 1024  # requests between two reports


class Router(Protocol):
    """A strategy at work in one gateway. Engines are numbers; it learns of them only what these calls say."""

    def place(self, number: int, request: Request, now: float) -> int:
        """The engine for a request."""
        ...

    def first_token(self, visit: Visit, engine: int, now: float) -> None:
        """The first token of a request that it placed has come."""
        ...

    def finished(self, visit: Visit, engine: int, now: float) -> None:
        """A request that it placed has ended."""
        ...

    def charged(self, visit: Visit, engine: int, now: float) -> None:
        """Its entry of the access log has come, with usage and cached tokens."""
        ...


@dataclass(frozen=True, slots=True)
class Fleet:
    """What serves: the shape of each engine, and the model by which they are simulated."""

    shapes: tuple[EngineShape, ...]
    block_tokens: int
    batching: bool = True

    def engines(self) -> list[EngineModel]:
        """New engines with empty caches."""
        made: Callable[[EngineShape, int], EngineModel] = BatchingEngine if self.batching else PrefillQueue
        return [made(shape, self.block_tokens) for shape in self.shapes]


@dataclass(slots=True)
class Outcome:
    """What happened: a visit per request, in the order of the trace, and where each went."""

    visits: list[Visit] = field(default_factory=list)
    engines: list[int] = field(default_factory=list)


RouterOf = Callable[[Sequence[EngineModel], int], Router]  # the engines, for signals that are scraped; a seed


def simulate(
    trace: Trace,
    fleet: Fleet,
    router_of: RouterOf,
    *,
    seed: int = 0,
    gateways: int = 1,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Outcome:
    """Replay a trace. Requests come to the gateways by chance; these share nothing. The same seed gives the same."""
    return _Run(trace, fleet, router_of, seed, gateways).run(on_progress)


class _Run:
    def __init__(self, trace: Trace, fleet: Fleet, router_of: RouterOf, seed: int, gateways: int) -> None:
        self._trace = trace
        self._engines = fleet.engines()
        self._routers = [router_of(self._engines, seed * 1000 + number) for number in range(gateways)]
        self._draw = Random(seed)
        self._outcome = Outcome()
        self._gateways: list[int] = []  # by request
        self._due: list[tuple[float, int]] = []  # a heap of times and engines; those that moved are passed over
        self._charges: list[tuple[float, int]] = []  # a heap of times and requests

    def run(self, on_progress: Callable[[int], None]) -> Outcome:
        for number, request in enumerate(self._trace.requests):
            self._pass_until(request.at)
            self._arrive(number, request)
            if number % _PROGRESS == 0:
                on_progress(number)
        self._pass_until(NEVER)
        on_progress(len(self._trace.requests))
        return self._outcome

    def _arrive(self, number: int, request: Request) -> None:
        gateway = self._draw.randrange(len(self._routers)) if len(self._routers) > 1 else 0
        chosen = self._routers[gateway].place(number, request, request.at)
        visit = Visit(number, request, request.at)
        self._outcome.visits.append(visit)
        self._outcome.engines.append(chosen)
        self._gateways.append(gateway)
        engine = self._engines[chosen]
        before = engine.due
        engine.arrive(visit)
        if engine.due != before:
            heappush(self._due, (engine.due, chosen))

    def _pass_until(self, end: float) -> None:
        """All events before `end`."""
        due, charges = self._due, self._charges
        while True:
            next_due = due[0][0] if due else NEVER
            next_charge = charges[0][0] if charges else NEVER
            if min(next_due, next_charge) >= end:
                return
            if next_charge < next_due:
                now, number = heappop(charges)
                engine = self._outcome.engines[number]
                self._routers[self._gateways[number]].charged(self._outcome.visits[number], engine, now)
                continue
            now, chosen = heappop(due)
            engine_model = self._engines[chosen]
            if engine_model.due == now:
                self._advance(engine_model, chosen, now)

    def _advance(self, engine: EngineModel, chosen: int, now: float) -> None:
        for visit in engine.advance():
            router = self._routers[self._gateways[visit.number]]
            if visit.first_token == now:
                router.first_token(visit, chosen, now)
            if visit.finished == now:
                router.finished(visit, chosen, now)
                heappush(self._charges, (now + CHARGE_SECONDS * self._draw.random(), visit.number))
        if engine.due != NEVER:
            heappush(self._due, (engine.due, chosen))
