"""The less busy one of two endpoints drawn by chance."""

from typing import Final

from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.placing import Load, RouteQuery
from aibrix_extproc.core.routing.draw import drawn
from aibrix_extproc.core.routing.spec import Input, StrategySpec

SPEC: Final = StrategySpec(
    name="power-of-two",
    intent="Draw two endpoints and send the request to the one that has fewer requests from this gateway.",
    inputs=(
        Input("dice", "one uniform random number per request"),
        Input("in-flight", "exchanges that this gateway has with an endpoint now; exact, never sampled"),
    ),
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
    """Draw the candidates as `random` does, and put the less busy one of the first two in front.

    Use it with many gateways over one fleet: each knows only its own requests, and `least-request` would send all of
    them to the endpoint that looks idle to each. Limits: within one gateway `least-request` balances better.
    """
    found = drawn(endpoints, dice, max(limit, 2))
    if len(found) > 1 and load.get(found[1].identity, 0) < load.get(found[0].identity, 0):
        found[0], found[1] = found[1], found[0]
    return tuple(found[:limit])
