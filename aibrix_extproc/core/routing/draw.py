"""Drawing endpoints by chance, from one random number."""

from aibrix_extproc.core.fleet.model import Endpoint


def drawn(endpoints: tuple[Endpoint, ...], dice: float, limit: int) -> list[Endpoint]:
    """At most `limit` endpoints without replacement, every order being equally likely."""
    found: list[Endpoint] = []
    moved: dict[int, int] = {}  # a shuffle of the first places only, so a large fleet is not copied
    size = len(endpoints)
    for place in range(min(limit, size)):
        # What is left of a uniform number after taking its leading part is uniform again: one draw serves all places.
        scaled = dice * (size - place)
        step = int(scaled)
        dice = scaled - step
        index = place + step
        found.append(endpoints[moved.get(index, index)])
        moved[index] = moved.get(place, place)
    return found
