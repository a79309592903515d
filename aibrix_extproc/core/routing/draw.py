"""Drawing endpoints by chance, from one random number."""

from typing import Final

from aibrix_extproc.core.fleet.model import Endpoint

_MASK: Final = 2**64 - 1
_STEP: Final = 0x9E3779B97F4A7C15
_ODD: Final = 0xD1342543DE82EF95  # so that draws that are near to each other start far apart


def drawn(endpoints: tuple[Endpoint, ...], draw: float, limit: int) -> list[Endpoint]:
    """At most `limit` endpoints without replacement, every order being equally likely."""
    found: list[Endpoint] = []
    moved: dict[int, int] = {}  # a shuffle of the first places only, so a large fleet is not copied
    size = len(endpoints)
    for place in range(min(limit, size)):
        # What is left of a uniform number after taking its leading part is uniform again: one draw serves all places.
        scaled = draw * (size - place)
        step = int(scaled)
        draw = scaled - step
        index = place + step
        found.append(endpoints[moved.get(index, index)])
        moved[index] = moved.get(place, place)
    return found


def spread(draw: float, count: int) -> list[float]:
    """So many numbers in [0, 1) from one, each uniform and none telling of another."""
    state = int(draw * 2**53) * _ODD & _MASK
    found = []
    for _ in range(count):
        # Splitmix64: a counter whose bits are mixed until each depends on all.
        state = (state + _STEP) & _MASK
        mixed = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
        found.append(((mixed ^ (mixed >> 31)) >> 11) / 2**53)
    return found
