"""Any endpoint, each with the same chance."""

from typing import Final

from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.placing import RouteQuery
from aibrix_extproc.core.routing.draw import drawn, spread
from aibrix_extproc.core.routing.pool import Pool
from aibrix_extproc.core.routing.scorer import Scorer, ScorerSpec
from aibrix_extproc.core.routing.signals import Need, Signals

SPEC: Final = ScorerSpec(
    name="random",
    intent="Send each request to an endpoint drawn by chance.",
    needs=frozenset({Need.DRAW}),
)


class Random(Scorer):
    """Draw the candidates without replacement, every order being equally likely.

    Use it as the baseline of a comparison, or with very many gateways over one fleet, where turns and counts that
    each gateway keeps for itself say little. Limits: it ignores load, so some endpoints queue while others idle.
    In a combination each endpoint scores a number of its own that is uniform between 0 and 1.
    """

    def scores(self, query: RouteQuery, pool: Pool, signals: Signals) -> list[float]:
        """Uniform numbers, all made of the one draw; the highest is that of the endpoint that `rank` puts first."""
        numbers = spread(signals.draw, len(pool.endpoints))
        first, highest = int(signals.draw * len(numbers)), numbers.index(max(numbers))
        numbers[first], numbers[highest] = numbers[highest], numbers[first]
        return numbers

    def rank(self, query: RouteQuery, pool: Pool, signals: Signals, limit: int) -> tuple[Endpoint, ...]:
        """Only as many as are wanted are drawn."""
        return tuple(drawn(pool.endpoints, signals.draw, limit))
