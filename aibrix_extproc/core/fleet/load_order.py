"""Endpoints in the order of their load, updated by changes: the least busy are found without looking at the others.

One level per in-flight count, each a sorted list of identities. A change of a count moves one identity by two binary
searches; a change of the fleet adds and removes what differs.
"""

from bisect import bisect_left, insort

from aibrix_extproc.core.fleet.difference import difference
from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.fleet.model import Endpoint

Endpoints = tuple[Endpoint, ...]


class LoadOrder:
    """The order of one set of endpoints, which are sorted by identity."""

    def __init__(self) -> None:
        self._read = 0  # place in the book's changes
        self._endpoints: Endpoints = ()
        self._by_identity: dict[str, Endpoint] = {}
        self._counts: dict[str, int] = {}
        self._levels: dict[int, list[str]] = {}
        self._filled: list[int] = []  # the counts that have a level, sorted

    def __len__(self) -> int:
        return len(self._by_identity)

    def first(self, endpoints: Endpoints, book: LoadBook, tick: int, limit: int) -> Endpoints:
        """The `limit` least busy ones, least busy first; equals take turns by `tick`. Always with the same book."""
        if endpoints is not self._endpoints:
            self._follow(endpoints, book)
        self._catch_up(book)
        by_identity, found = self._by_identity, list[Endpoint]()
        for level in self._filled:
            equals = self._levels[level]
            start, wanted = tick % len(equals), limit - len(found)
            taken = equals[start : start + wanted]
            taken += equals[: min(start, wanted - len(taken))]
            found += [by_identity[identity] for identity in taken]
            if len(found) >= limit:
                break
        return tuple(found)

    def _follow(self, endpoints: Endpoints, book: LoadBook) -> None:
        gone, come = difference(self._endpoints, endpoints)
        self._endpoints = endpoints
        if len(gone) + len(come) > len(endpoints) // 2:
            self._rebuild(book)
            return
        for endpoint in gone:
            self._leave(endpoint.identity, self._counts.pop(endpoint.identity))
            del self._by_identity[endpoint.identity]
        for endpoint in come:
            self._by_identity[endpoint.identity] = endpoint
            self._enter(endpoint.identity, book.in_flight(endpoint.identity))

    def _catch_up(self, book: LoadBook) -> None:
        """Take in which counts have changed since the last time."""
        changed = book.changed_since(self._read)
        if changed is None or len(changed) > len(self._endpoints):
            self._rebuild(book)
            return
        self._read += len(changed)
        counts, in_flight = self._counts, book.view.get
        for identity in changed:
            before = counts.get(identity)
            if before is not None and (now := in_flight(identity, 0)) != before:
                self._leave(identity, before)
                self._enter(identity, now)

    def _rebuild(self, book: LoadBook) -> None:
        self._read = book.changes()
        in_flight = book.view.get
        self._by_identity = {endpoint.identity: endpoint for endpoint in self._endpoints}
        self._counts = {identity: in_flight(identity, 0) for identity in self._by_identity}
        self._levels = {}
        for identity, count in self._counts.items():
            self._levels.setdefault(count, []).append(identity)
        self._filled = sorted(self._levels)

    def _leave(self, identity: str, count: int) -> None:
        level = self._levels[count]
        if len(level) > 1:
            del level[bisect_left(level, identity)]
        else:
            del self._levels[count]
            del self._filled[bisect_left(self._filled, count)]

    def _enter(self, identity: str, count: int) -> None:
        self._counts[identity] = count
        level = self._levels.get(count)
        if level is None:
            self._levels[count] = [identity]
            insort(self._filled, count)
        else:
            insort(level, identity)
