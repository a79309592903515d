"""Each endpoint in turn, whatever its load."""

from typing import Final

from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.placing import Load, RouteQuery
from aibrix_extproc.core.routing.spec import Input, StrategySpec

SPEC: Final = StrategySpec(
    name="round-robin",
    intent="Send the requests to the endpoints in turn.",
    inputs=(Input("tick", "a counter of placements"),),
)


def rank(
    query: RouteQuery,
    endpoints: tuple[Endpoint, ...],
    load: Load,
    *,
    tick: int,
    dice: float,
    limit: int,
) -> tuple[Endpoint, ...]:
    """Take the endpoints in a fixed order, one further for each request; the next in the order follow as candidates.

    Use it when a predictable spread matters more than speed: measurements, warming every engine, debugging. Limits:
    a slow endpoint gets as many requests as a fast one, and the turn moves when the set of ready endpoints changes.
    """
    start = tick % len(endpoints)
    taken = endpoints[start : start + limit]
    return taken + endpoints[: min(start, limit - len(taken))]
