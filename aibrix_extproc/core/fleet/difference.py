"""Finds the part in which two states of one sorted set of endpoints differ."""

from collections.abc import Callable

from aibrix_extproc.core.fleet.model import Endpoint

Endpoints = tuple[Endpoint, ...]


def difference(old: Endpoints, new: Endpoints) -> tuple[Endpoints, Endpoints]:
    """Both states without the beginning and the end that they share.

    Comparing is left to tuples, which look at identity first: 5,000 equal endpoints take about 50 us.
    """
    shared = min(len(old), len(new))
    start = _shared(lambda size: old[:size] == new[:size], shared)
    end = _shared(lambda size: old[len(old) - size :] == new[len(new) - size :], shared - start)
    return old[start : len(old) - end], new[start : len(new) - end]


def _shared(equal: Callable[[int], bool], most: int) -> int:
    """The greatest size for which parts are equal, by halving: equal parts have equal parts."""
    least = 0
    while least < most:
        middle = (least + most + 1) // 2
        if equal(middle):
            least = middle
        else:
            most = middle - 1
    return least
