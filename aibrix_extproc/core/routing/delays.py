"""A request delays those that come to its endpoint while it waits or is computed, and takes room of a full cache.

cost = uncached tokens * pace * ((1 + followers) * (1 + hit rate, if the cache is full) - 1)
followers = half of the requests that came in the last (wait + half of uncached tokens * pace) seconds, for each engine

As many come as came in the same time before. A full cache drops as much as it takes up, which is asked for again about
as often as anything is found. Without both, prompts leave the endpoints that have their beginnings too early.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Final

from aibrix_extproc.core.routing.engine import Engine
from aibrix_extproc.core.routing.work import WorkBook

_FOLLOWING: Final = 0.5  # of the requests that came in as long a time before: a burst is half over, as a rule


def add_delays(
    costs: list[float], own: Sequence[float], engines: Sequence[Engine], work: WorkBook, hit_rate: float, now: float
) -> dict[int, float]:
    """Add to the costs the wait at each engine, and what others bear. Returns the latter by place.

    `own`: seconds that each engine computes on the prompt.
    """
    times, delays = engines[0].arrivals.times, dict[int, float]()
    came, each = len(times) + 1, _FOLLOWING / len(engines)  # with this request
    for place, engine in enumerate(engines):
        seconds = own[place]
        others = hit_rate if engine.is_full else 0.0
        wait = work.wait(engine, now) if engine.waiting else engine.free_at - now
        if wait > 0.0:
            costs[place] += wait
            others += (came - bisect_left(times, now - wait - seconds / 2)) * each * (1.0 + others)
        if others:
            delays[place] = seconds = others * seconds
            costs[place] += seconds
    return delays


def without_delays(costs: Sequence[float], delays: Mapping[int, float]) -> list[float]:
    """The predicted seconds to the first token: costs without what others bear."""
    seconds = list(costs)
    for place, delay in delays.items():
        seconds[place] -= delay
    return seconds
