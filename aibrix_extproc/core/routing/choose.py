"""One request and the endpoints that could take it in, the ranked placement out. Runs once per request."""

from collections.abc import Callable, Sequence
from typing import Final, final

from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.placing import Placement, RouteQuery
from aibrix_extproc.core.routing.best import best, weighted_mean
from aibrix_extproc.core.routing.mix import Mix
from aibrix_extproc.core.routing.pool import Pool
from aibrix_extproc.core.routing.record import Detail, Reason, Trail
from aibrix_extproc.core.routing.registry import Scorers
from aibrix_extproc.core.routing.scorer import Scorer
from aibrix_extproc.core.routing.signals import Need, Signals, SignalSources
from aibrix_extproc.core.routing.trail import Tracer

MAX_COMBINATIONS: Final = 64  # that are kept ready

Rank = Callable[[RouteQuery, Pool, Signals, int], tuple[Endpoint, ...]]


@final
class Chooser:
    """A mix at work: its scorers, and which signals they need."""

    __slots__ = ("_draws", "_rank", "_sources", "_ticks", "_tracer", "_weights", "label")

    def __init__(self, mix: Mix, scorers: Scorers, sources: SignalSources) -> None:
        parts = [(scorers.get(name), weight) for name, weight in mix.parts]
        self.label = mix.label
        self._sources = sources
        self._ticks = Need.TICK in mix.needs
        self._draws = Need.DRAW in mix.needs
        self._rank = parts[0][0].rank if len(parts) == 1 else _combined(parts)
        self._weights = [weight for _, weight in mix.parts]
        self._tracer = Tracer([(name, weight, scorers.get(name)) for name, weight in mix.parts])

    def choose(self, query: RouteQuery, pool: Pool, limit: int) -> Placement:
        """Rank at most `limit` different addresses, best first. The pool is not empty, the limit above zero."""
        signals = self._sources.read(query.model, tick=self._ticks, draw=self._draws)
        ranked = _by_distinct_address(self._rank(query, pool, signals, limit))
        return Placement(self.label, query.model, ranked, tuple(signals.degraded))

    def traced(
        self, query: RouteQuery, pool: Pool, limit: int, detail: Detail, reason: Reason, *, dry: bool = False
    ) -> tuple[Placement, Trail]:
        """The same placement, and how it came about. `dry`: nothing will be placed, so no turn is taken."""
        signals = self._sources.read(query.model, tick=self._ticks, draw=self._draws, dry=dry)
        values = self._tracer.scores(query, pool, signals)
        if values is None:
            ranked = self._rank(query, pool, signals, limit)
        else:
            ranked = best(weighted_mean(self._weights, values), pool.endpoints, signals.tick, limit)
        placement = Placement(self.label, query.model, _by_distinct_address(ranked), tuple(signals.degraded))
        return placement, self._tracer.trail(query, pool, signals, placement.candidates, values, detail, reason)


def _combined(parts: Sequence[tuple[Scorer, int]]) -> Rank:
    """By the weighted mean of the scores; equal ones take turns."""
    weights = [weight for _, weight in parts]

    def rank(query: RouteQuery, pool: Pool, signals: Signals, limit: int) -> tuple[Endpoint, ...]:
        values = [scorer.scores(query, pool, signals) for scorer, _ in parts]
        return best(weighted_mean(weights, values), pool.endpoints, signals.tick, limit)

    return rank


def _by_distinct_address(ranked: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
    """Each address once: a replaced pod is listed twice for a moment, and a retry on the same address is wasted."""
    if len({endpoint.address for endpoint in ranked}) == len(ranked):
        return ranked
    first: dict[str, Endpoint] = {}
    for endpoint in ranked:
        first.setdefault(endpoint.address, endpoint)
    return tuple(first.values())


class Choosers:
    """The choosers of one process, by mix."""

    def __init__(self, sources: SignalSources) -> None:
        self._sources = sources
        self._scorers = Scorers(sources)
        self._made: dict[Mix, Chooser] = {}

    def of(self, mix: Mix) -> Chooser:
        """The chooser for a mix."""
        made = self._made.get(mix)
        if made is None:
            if len(self._made) >= MAX_COMBINATIONS:
                self._made.clear()  # clients name combinations; the scorers and their memory stay
            made = self._made[mix] = Chooser(mix, self._scorers, self._sources)
        return made
