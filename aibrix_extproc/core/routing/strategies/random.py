"""Any endpoint, each with the same chance."""

from typing import Final

from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.fleet.placement import Load, RouteQuery
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
    drawn: list[Endpoint] = []
    moved: dict[int, int] = {}  # a shuffle of the first places only, so a large fleet is not copied
    size = len(endpoints)
    for place in range(min(limit, size)):
        # What is left of a uniform number after taking its leading part is uniform again: one draw serves all places.
        scaled = dice * (size - place)
        step = int(scaled)
        dice = scaled - step
        index = place + step
        drawn.append(endpoints[moved.get(index, index)])
        moved[index] = moved.get(place, place)
    return tuple(drawn)
