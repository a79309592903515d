"""The less busy one of two endpoints drawn by chance."""

from typing import Final

from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.placing import RouteQuery
from aibrix_extproc.core.routing.draw import drawn
from aibrix_extproc.core.routing.pool import Pool
from aibrix_extproc.core.routing.scorer import Scorer, ScorerSpec
from aibrix_extproc.core.routing.signals import Need, Signals

SPEC: Final = ScorerSpec(
    name="power-of-two",
    intent="Draw two endpoints and send the request to the one that has fewer requests from this gateway.",
    needs=frozenset({Need.DRAW, Need.LOAD}),
)


class PowerOfTwo(Scorer):
    """Draw the candidates as `random` does, and put the less busy one of the first two in front.

    Use it with many gateways over one fleet: each knows only its own requests, and `least-request` would send all of
    them to the endpoint that looks idle to each. Limits: within one gateway `least-request` balances better. In a
    combination the less busy one of the two scores 1, the other one 1/2, and all others 0.
    """

    def scores(self, query: RouteQuery, pool: Pool, signals: Signals) -> list[float]:
        """Something for the two that are drawn, nothing for the others."""
        given = dict(zip((one.identity for one in self.rank(query, pool, signals, 2)), (1.0, 0.5), strict=False))
        return [given.get(endpoint.identity, 0.0) for endpoint in pool.endpoints]

    def rank(self, query: RouteQuery, pool: Pool, signals: Signals, limit: int) -> tuple[Endpoint, ...]:
        """Only as many as are wanted are drawn, and two counts are compared."""
        found = drawn(pool.endpoints, signals.draw, max(limit, 2))
        in_flight = signals.load.in_flight
        if len(found) > 1 and in_flight(found[1].identity) < in_flight(found[0].identity):
            found[0], found[1] = found[1], found[0]
        return tuple(found[:limit])
