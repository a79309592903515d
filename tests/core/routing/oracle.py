"""What strategies did before they were scorers, as an oracle: each gives the ranking that must come out."""

from collections.abc import Mapping

from aibrix_extproc.core.fleet.model import Endpoint

Endpoints = tuple[Endpoint, ...]


def least_request(endpoints: Endpoints, load: Mapping[str, int], tick: int, limit: int) -> Endpoints:
    """Fewest in flight first; equals take turns."""
    counts = [load.get(endpoint.identity, 0) for endpoint in endpoints]
    ranked: list[Endpoint] = []
    for level in sorted(set(counts)):
        equals = [endpoint for endpoint, count in zip(endpoints, counts, strict=True) if count == level]
        start = tick % len(equals)
        ranked += equals[start:]
        ranked += equals[:start]
        if len(ranked) >= limit:
            break
    return tuple(ranked[:limit])


def drawn(endpoints: Endpoints, draw: float, limit: int) -> list[Endpoint]:
    """At most `limit` endpoints without replacement, every order being equally likely."""
    found: list[Endpoint] = []
    moved: dict[int, int] = {}
    size = len(endpoints)
    for place in range(min(limit, size)):
        scaled = draw * (size - place)
        step = int(scaled)
        draw = scaled - step
        index = place + step
        found.append(endpoints[moved.get(index, index)])
        moved[index] = moved.get(place, place)
    return found


def power_of_two(endpoints: Endpoints, load: Mapping[str, int], draw: float, limit: int) -> Endpoints:
    """The less busy of two that are drawn, then the others that are drawn."""
    found = drawn(endpoints, draw, max(limit, 2))
    if len(found) > 1 and load.get(found[1].identity, 0) < load.get(found[0].identity, 0):
        found[0], found[1] = found[1], found[0]
    return tuple(found[:limit])


def random(endpoints: Endpoints, draw: float, limit: int) -> Endpoints:
    """Those that are drawn."""
    return tuple(drawn(endpoints, draw, limit))


def round_robin(endpoints: Endpoints, tick: int, limit: int) -> Endpoints:
    """One further with each tick."""
    start = tick % len(endpoints)
    taken = endpoints[start : start + limit]
    return taken + endpoints[: min(start, limit - len(taken))]
