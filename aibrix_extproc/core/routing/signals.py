"""What scorers may know besides the request and its endpoints, and what produces it.

A scorer declares its needs. Only what is needed is produced: a turn is counted, a number drawn, and a source that costs
something switched on with the first scorer that needs it.
"""

from collections.abc import Callable, Iterable
from enum import StrEnum
from types import MappingProxyType
from typing import Final

import msgspec

from aibrix_extproc.core.fleet.gauge_book import GaugeBook
from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.routing.caller_tokens import CallerTokens
from aibrix_extproc.core.routing.predictor import Predictor


class Need(StrEnum):
    """A signal that a scorer reads: the attribute of Signals with its name in lower case, or of the query."""

    LOAD = "in-flight"
    TICK = "tick"
    DRAW = "draw"
    GAUGES = "gauges"
    CALLER = "caller"  # of the query, and the tokens of callers
    SESSION = "session"  # of the query; the client is told it
    PREFIX = "prefix"  # of the query, and the index of the predictor
    WORK = "work"  # the predictor: work that waits, learned speeds; and the time


MEANINGS: Final = MappingProxyType(
    {
        Need.LOAD: "exchanges that this gateway has with an endpoint now; exact, never sampled",
        Need.TICK: "a counter of placements, one per model",
        Need.DRAW: "one uniform random number per request",
        Need.GAUGES: "what engines show at their metrics pages, read while a strategy needs it; old readings fade out",
        Need.CALLER: "who sends the request by its key, and what tokens the callers of this gateway have used lately",
        Need.SESSION: "`x-session-id`, else `x-aibrix-session-key`, else a new one; told by `x-session-id`",
        Need.PREFIX: "the prompt in hashed blocks, and which endpoints probably have which blocks in their caches",
        Need.WORK: "prompt tokens that wait at an endpoint, and the speed that it has shown; learned from its answers",
    }
)


class Signals(msgspec.Struct, frozen=True, gc=False):
    """The signals of one placement; what the scorer does not declare is not in them."""

    load: LoadBook
    tick: int = -1
    draw: float = -1.0  # uniform in [0, 1)
    gauges: GaugeBook = msgspec.field(default_factory=GaugeBook)
    # Strategy and reason: a scorer adds what it would need and does not have.
    degraded: list[tuple[str, str]] = msgspec.field(default_factory=list)
    now: float = 0.0  # seconds of the clock that the predictor is told the time by
    predictor: Predictor = msgspec.field(default_factory=Predictor)
    tokens: CallerTokens = msgspec.field(default_factory=CallerTokens)


class SignalSources:
    """One for all placements of a process. `draw` gives a uniform number in [0, 1), `clock` monotonic seconds."""

    def __init__(
        self,
        load: LoadBook,
        draw: Callable[[], float],
        clock: Callable[[], float] = lambda: 0.0,
        predictor: Predictor | None = None,
    ) -> None:
        self.load = load
        self.draw = draw
        self.clock = clock
        self.gauges = GaugeBook()
        self.predictor = Predictor() if predictor is None else predictor
        self.tokens = CallerTokens()
        self._ticks: dict[str, int] = {}  # placements by model, of models that are served
        self._starts: dict[Need, list[Callable[[], None]]] = {Need.LOAD: [load.record_changes]}
        self._needed: set[Need] = set()

    def provide(self, need: Need, start: Callable[[], None]) -> None:
        """Have a producer started when the first scorer needs it."""
        self._starts.setdefault(need, []).append(start)
        if need in self._needed:
            start()

    def needs(self, need: Need) -> bool:
        """Whether any scorer has needed this signal so far."""
        return need in self._needed

    def require(self, needs: Iterable[Need]) -> None:
        """Start the producers of these signals that do not run yet."""
        for need in needs:
            if need not in self._needed:
                self._needed.add(need)
                for start in self._starts.get(need, ()):
                    start()

    def read(self, model: str, *, tick: bool, draw: bool, dry: bool = False) -> Signals:
        """The signals for one placement; those that cost something by themselves only if they are needed.

        `dry`: nothing will be placed, so no turn is taken.
        """
        turn = -1
        if tick:
            turn = self._ticks.get(model, -1) + 1 if dry else self.tick(model)
        drawn = self.draw() if draw else -1.0
        return Signals(
            self.load, turn, drawn, self.gauges, now=self.clock(), predictor=self.predictor, tokens=self.tokens
        )

    def tick(self, model: str) -> int:
        """The number of placements of this model that needed one before.

        Per model, since two models that alternate on one counter would each see every other number.
        """
        tick = self._ticks[model] = self._ticks.get(model, -1) + 1
        return tick
