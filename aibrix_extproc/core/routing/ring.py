"""Endpoints on a ring of hashes, on which a session finds its own: multi-probe consistent hashing (Appleton, O'Reilly).

Each endpoint has 16 points. A session has 8 places on the ring; the endpoint whose point comes soonest after any of
them is the session's. So when an endpoint leaves, its sessions move and no others; when one comes, it takes sessions
over and no others move. Shares differ by about a tenth: 100 points and one place do as well and take six times the
memory, one point and 21 places leave some endpoints without sessions.
"""

from bisect import bisect_left, insort
from hashlib import blake2b, shake_128
from heapq import heapify, heapreplace
from struct import Struct
from typing import Final

from aibrix_extproc.core.fleet.difference import difference
from aibrix_extproc.core.fleet.model import Endpoint

Endpoints = tuple[Endpoint, ...]

POINTS: Final = 16  # of an endpoint
PLACES: Final = 8  # of a session
_MASK: Final = 2**64 - 1
_NUMBERS: Final = Struct(f">{POINTS}Q")
_START_AND_STEP: Final = Struct(">2Q")


class Ring:
    """The ring of one set of endpoints, sorted by identity; a change of the set moves what differs."""

    def __init__(self) -> None:
        self._endpoints: Endpoints = ()
        self._points: list[int] = []
        self._by_point: dict[int, Endpoint] = {}  # of two endpoints with a point in common, one has it

    def __len__(self) -> int:
        return len(self._points)

    def first(self, endpoints: Endpoints, session: str, limit: int) -> Endpoints:
        """At most `limit` endpoints for a session; each is the one it would move to if those before it left."""
        if endpoints is not self._endpoints:
            self._follow(endpoints)
        points, by_point = self._points, self._by_point
        size = len(points)
        soonest = []  # for each place of the session the distance to a point, the place, and which point
        for place in _places(session):
            index = bisect_left(points, place) % size
            soonest.append(((points[index] - place) & _MASK, place, index))
        heapify(soonest)
        found: dict[str, Endpoint] = {}
        wanted = min(limit, len(endpoints))
        while True:
            _, place, index = soonest[0]
            endpoint = by_point[points[index]]
            found[endpoint.identity] = endpoint
            if len(found) == wanted:
                return tuple(found.values())
            index = (index + 1) % size
            heapreplace(soonest, ((points[index] - place) & _MASK, place, index))

    def _follow(self, endpoints: Endpoints) -> None:
        gone, come = difference(self._endpoints, endpoints)
        self._endpoints = endpoints
        if len(gone) + len(come) > len(endpoints) // 2:
            self._by_point = {point: endpoint for endpoint in endpoints for point in _points(endpoint)}
            self._points = sorted(self._by_point)
            return
        for endpoint in gone:
            for point in _points(endpoint):
                if self._by_point.pop(point, None) is not None:
                    del self._points[bisect_left(self._points, point)]
        for endpoint in come:
            for point in _points(endpoint):
                if point not in self._by_point:
                    insort(self._points, point)
                self._by_point[point] = endpoint


def _points(endpoint: Endpoint) -> tuple[int, ...]:
    identity = endpoint.identity.encode("utf-8", "surrogatepass")
    return _NUMBERS.unpack(shake_128(identity).digest(_NUMBERS.size))


def _places(session: str) -> list[int]:
    """Places of a session, a fixed step apart; the step is the session's own."""
    digest = blake2b(session.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    start, step = _START_AND_STEP.unpack(digest)
    return [(start + number * (step | 1)) & _MASK for number in range(PLACES)]
