"""Each endpoint in turn, whatever its load."""

from typing import Final

from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.placing import RouteQuery
from aibrix_extproc.core.routing.pool import Pool
from aibrix_extproc.core.routing.scorer import Scorer, ScorerSpec
from aibrix_extproc.core.routing.signals import Need, Signals

SPEC: Final = ScorerSpec(
    name="round-robin",
    intent="Send the requests to the endpoints in turn.",
    needs=frozenset({Need.TICK}),
)


class RoundRobin(Scorer):
    """Take the endpoints in a fixed order, one further for each request; the next in the order follow as candidates.

    Use it when a predictable spread matters more than speed: measurements, warming every engine, debugging. Limits:
    a slow endpoint gets as many requests as a fast one, and the turn moves when the set of ready endpoints changes.
    In a combination the endpoint whose turn it is scores 1, and each further one less.
    """

    def scores(self, query: RouteQuery, pool: Pool, signals: Signals) -> list[float]:
        """By the distance from the endpoint whose turn it is."""
        size = len(pool.endpoints)
        start = signals.tick % size
        return [1 - (index - start) % size / size for index in range(size)]

    def rank(self, query: RouteQuery, pool: Pool, signals: Signals, limit: int) -> tuple[Endpoint, ...]:
        """The same order, without a look at the others."""
        endpoints = pool.endpoints
        start = signals.tick % len(endpoints)
        taken = endpoints[start : start + limit]
        return taken + endpoints[: min(start, limit - len(taken))]
