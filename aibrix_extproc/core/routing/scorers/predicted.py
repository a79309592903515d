"""The endpoint that will probably answer first, by work that waits, cached prompt and learned speed."""

from collections.abc import Mapping, Sequence
from typing import Final, overload

from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.placing import RouteQuery
from aibrix_extproc.core.routing.best import best, in_turn
from aibrix_extproc.core.routing.delays import without_delays
from aibrix_extproc.core.routing.pool import Pool
from aibrix_extproc.core.routing.predictor import alike
from aibrix_extproc.core.routing.prefix.index import Cached
from aibrix_extproc.core.routing.record import PREDICTED_CACHED, PREDICTED_TTFT
from aibrix_extproc.core.routing.scorer import Scorer, ScorerSpec
from aibrix_extproc.core.routing.signals import Need, Signals

SPEC: Final = ScorerSpec(
    name="predicted",
    intent="Send each request to the endpoint with the shortest predicted time to its first token.",
    needs=frozenset({Need.PREFIX, Need.TICK, Need.WORK}),
)


class CachedTokens(Sequence[float]):
    """Tokens of a prompt that each endpoint has in its cache, counted when somebody looks."""

    __slots__ = ("_cached", "_endpoints", "_ratio")

    def __init__(self, cached: Cached, ratio: float, endpoints: tuple[Endpoint, ...]) -> None:
        self._cached = cached
        self._ratio = ratio
        self._endpoints = endpoints

    def __len__(self) -> int:
        return len(self._endpoints)

    @overload
    def __getitem__(self, place: int) -> float: ...
    @overload
    def __getitem__(self, place: slice) -> list[float]: ...
    def __getitem__(self, place: int | slice) -> float | list[float]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        return self._cached.of(self._endpoints[place].identity) * self._ratio


class Predicted(Scorer):
    """Order the endpoints by the predicted time to the first token, shortest first; equal ones take turns.

    The time is the work that waits at the endpoint, plus the part of the prompt that it does not have in its cache, at
    the speed that it has shown. There is nothing to tune. Use it for language models of any kind, above all where
    prompts repeat or differ in size, or engines in speed. Limits: the first requests to a new endpoint are placed by
    the speed of its peers. In a combination the shortest time scores 1, and one that is twice as long 1/2.
    """

    def __init__(self) -> None:
        self._costs: list[float] = []
        self._delays: Mapping[int, float] = {}

    def scores(self, query: RouteQuery, pool: Pool, signals: Signals) -> list[float]:
        """The shortest time over each one's own; 1 for those that are nearly as short."""
        seconds = self._predict(query, pool, signals)
        least = min(seconds)
        most = alike(least)
        return [1.0 if one <= most else least / one for one in seconds]

    def rank(self, query: RouteQuery, pool: Pool, signals: Signals, limit: int) -> tuple[Endpoint, ...]:
        """By the scores, which are not made where enough endpoints are equal."""
        seconds = self._predict(query, pool, signals)
        least = min(seconds)
        most = alike(least)
        equal = [endpoint for endpoint, one in zip(pool.endpoints, seconds, strict=True) if one <= most]
        if len(equal) >= limit:
            return tuple(in_turn(equal, signals.tick, limit))
        return best([1.0 if one <= most else least / one for one in seconds], pool.endpoints, signals.tick, limit)

    def explain(self, query: RouteQuery, pool: Pool, signals: Signals) -> Mapping[str, Sequence[float]]:
        """The predicted seconds that the scores were made of."""
        seconds = tuple(without_delays(self._costs, self._delays))
        if query.prefix is None:
            return {PREDICTED_TTFT: seconds}
        predictor = signals.predictor
        cached = CachedTokens(
            predictor.index.cached(query.prefix), predictor.ratios.ratio(query.model), pool.endpoints
        )  # fmt: skip
        return {PREDICTED_TTFT: seconds, PREDICTED_CACHED: cached}

    def _predict(self, query: RouteQuery, pool: Pool, signals: Signals) -> list[float]:
        self._costs, self._delays = signals.predictor.costs(query, pool, signals.now)
        return self._costs
