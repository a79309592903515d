"""The endpoint with the fewest of our exchanges in flight; equals take turns."""

from typing import Final

from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.placing import Load, RouteQuery
from aibrix_extproc.core.routing.spec import Input, StrategySpec

SPEC: Final = StrategySpec(
    name="least-request",
    intent="Send each request to the endpoint that has the fewest requests from this gateway.",
    inputs=(Input("in-flight", "exchanges that this gateway has with an endpoint now; exact, never sampled"),),
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
    """Order the endpoints by the number of exchanges in flight, fewest first; equal ones take turns.

    Use it by default: it needs nothing from the engines, reacts within one request, and steers around an endpoint
    that has become slow, because its requests pile up. Limits: it counts requests, not their size, so one long
    prompt weighs as much as a short one; it sees only the requests of its own gateway process, so several gateways
    over one small fleet balance more coarsely; and it does not look for cached prefixes.
    """
    in_flight = load.get
    counts = [in_flight(endpoint.identity, 0) for endpoint in endpoints]
    ranked: list[Endpoint] = []
    # Level by level instead of a sort of all: the lowest one or two levels nearly always hold `limit` endpoints.
    for level in sorted(set(counts)):
        equals = [endpoint for endpoint, count in zip(endpoints, counts, strict=True) if count == level]
        start = tick % len(equals)
        ranked += equals[start:]
        ranked += equals[:start]
        if len(ranked) >= limit:
            break
    return tuple(ranked[:limit])
