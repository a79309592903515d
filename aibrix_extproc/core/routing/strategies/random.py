"""Any endpoint, each with the same chance."""

from typing import Final

from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.placing import Load, RouteQuery
from aibrix_extproc.core.routing.draw import drawn
from aibrix_extproc.core.routing.spec import Input, StrategySpec

SPEC: Final = StrategySpec(
    name="random",
    intent="Send each request to an endpoint drawn by chance.",
    inputs=(Input("dice", "one uniform random number per request"),),
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
    """Draw the candidates without replacement, every order being equally likely.

    Use it as the baseline of a comparison, or with very many gateways over one fleet, where turns and counts that
    each gateway keeps for itself say little. Limits: it ignores load, so some endpoints queue while others idle.
    """
    return tuple(drawn(endpoints, dice, limit))
