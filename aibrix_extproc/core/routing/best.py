"""The one place where scores become a ranking, and where ties are broken."""

from collections.abc import Sequence
from heapq import nlargest

from aibrix_extproc.core.fleet.model import Endpoint


def best(scores: Sequence[float], endpoints: tuple[Endpoint, ...], tick: int, limit: int) -> tuple[Endpoint, ...]:
    """The `limit` endpoints with the highest scores; equal ones take turns by `tick`."""
    lowest = nlargest(limit, scores)[-1]
    levels: dict[float, list[Endpoint]] = {}
    for endpoint, score in zip(endpoints, scores, strict=True):
        if score >= lowest:
            levels.setdefault(score, []).append(endpoint)
    ranked: list[Endpoint] = []
    for level in sorted(levels, reverse=True):
        ranked += in_turn(levels[level], tick, limit - len(ranked))
    return tuple(ranked[:limit])


def in_turn(endpoints: Sequence[Endpoint], tick: int, limit: int) -> list[Endpoint]:
    """At most `limit` endpoints, from the one whose turn it is on, and around. `limit` below one gives none."""
    if limit < 1:
        return []
    start = tick % len(endpoints)
    taken = list(endpoints[start : start + limit])
    return taken + list(endpoints[: min(start, limit - len(taken))])


def weighted_mean(weights: Sequence[int], values: Sequence[Sequence[float]]) -> Sequence[float]:
    """Of the scores of several parts, endpoint by endpoint; those of one part stay as they are."""
    if len(values) == 1:
        return values[0]
    total = sum(weights)
    sums = [0.0] * len(values[0])
    for weight, scores in zip(weights, values, strict=True):
        share = weight / total
        sums = [before + share * score for before, score in zip(sums, scores, strict=True)]
    return sums
