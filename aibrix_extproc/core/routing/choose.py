"""One request and the endpoints that could take it in, the ranked placement out. Runs once per request."""

from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.placing import Load, Placement, RouteQuery
from aibrix_extproc.core.routing.registry import STRATEGIES


def choose(
    strategy: str,
    query: RouteQuery,
    endpoints: tuple[Endpoint, ...],
    load: Load,
    *,
    tick: int,
    dice: float,
    limit: int,
) -> Placement:
    """Rank at most `limit` different addresses, best first.

    `strategy` is a key of STRATEGIES and `endpoints` is not empty: both are the caller's to check, since each has an
    answer of its own for the client. `tick` counts placements, per model: two models that alternate on one counter
    would each see every other tick. `dice` is uniform in [0, 1).
    """
    if not endpoints or limit < 1:
        raise ValueError("nothing to choose from")
    ranked = STRATEGIES[strategy].rank(query, endpoints, load, tick=tick, dice=dice, limit=limit)
    return Placement(strategy, query.model, _by_distinct_address(ranked))


def _by_distinct_address(ranked: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
    """Each address once: a replaced pod is listed twice for a moment, and a retry on the same address is wasted."""
    if len({endpoint.address for endpoint in ranked}) == len(ranked):
        return ranked
    first: dict[str, Endpoint] = {}
    for endpoint in ranked:
        first.setdefault(endpoint.address, endpoint)
    return tuple(first.values())
