"""The endpoint with the fewest of our exchanges in flight; equals take turns."""

from typing import Final

from aibrix_extproc.core.fleet.load_order import LoadOrder
from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.placing import RouteQuery
from aibrix_extproc.core.routing.kept import Kept
from aibrix_extproc.core.routing.pool import Pool
from aibrix_extproc.core.routing.scorer import Scorer, ScorerSpec
from aibrix_extproc.core.routing.signals import Need, Signals

SPEC: Final = ScorerSpec(
    name="least-request",
    intent="Send each request to the endpoint that has the fewest requests from this gateway.",
    needs=frozenset({Need.LOAD, Need.TICK}),
)


class LeastRequest(Scorer):
    """Order the endpoints by the number of exchanges in flight, fewest first; equal ones take turns.

    Use it where prompts are alike in size: it needs nothing from the engines, reacts at once, and steers around one
    that has become slow, because its requests pile up. Limits: it counts requests, not their size, so one long
    prompt weighs as much as a short one; it sees only the requests of its own gateway process, so several gateways
    over one small fleet balance more coarsely; and it does not look for cached prefixes. In a combination the least
    busy endpoint scores 1, the busiest 0.
    """

    def __init__(self) -> None:
        self._orders = Kept(LoadOrder)

    def scores(self, query: RouteQuery, pool: Pool, signals: Signals) -> list[float]:
        """Between the busiest (0) and the least busy (1)."""
        in_flight = signals.load.view.get
        counts = [in_flight(endpoint.identity, 0) for endpoint in pool.endpoints]
        least = min(counts)
        spread = (max(counts) - least) or 1  # all equal: all score 1
        return [1 - (count - least) / spread for count in counts]

    def rank(self, query: RouteQuery, pool: Pool, signals: Signals, limit: int) -> tuple[Endpoint, ...]:
        """By scores in a selection; from a kept order among all endpoints of a model."""
        if not pool.key:
            return super().rank(query, pool, signals, limit)
        return self._orders.of(pool).first(pool.endpoints, signals.load, signals.tick, limit)
