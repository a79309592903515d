"""The load of endpoints: our own exact in-flight count, kept across snapshot changes.

One owner writes (the gateway's fact observer, on `placed` and `finished`), scorers read. Keyed by endpoint
identity, so a replaced pod starts at zero and a late release of the old one touches nothing of the new one.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

MAX_CHANGES: Final = 4096  # that are kept for who reads the book by its changes; twice as many for a moment


class LoadBook:
    """In-flight exchanges by endpoint identity. Entries at zero are dropped, so the book is as large as the work."""

    def __init__(self) -> None:
        self._in_flight: dict[str, int] = {}
        self.view: Mapping[str, int] = MappingProxyType(self._in_flight)
        self._changes: list[str] | None = None  # identities, the latest last
        self._forgotten = 0  # changes before the first of these

    def acquire(self, identity: str) -> None:
        """Count one exchange in."""
        self._in_flight[identity] = self._in_flight.get(identity, 0) + 1
        if self._changes is not None:
            self._record(self._changes, identity)

    def release(self, identity: str) -> None:
        """Count one exchange out; a release without its acquire is a bug of the caller."""
        count = self._in_flight.get(identity, 0)
        if count <= 0:
            raise ValueError(f"release without acquire: {identity}")
        if count == 1:
            del self._in_flight[identity]
        else:
            self._in_flight[identity] = count - 1
        if self._changes is not None:
            self._record(self._changes, identity)

    def in_flight(self, identity: str) -> int:
        """Exchanges that are with this endpoint now."""
        return self._in_flight.get(identity, 0)

    def total(self) -> int:
        """Exchanges that are with any endpoint now."""
        return sum(self._in_flight.values())

    def record_changes(self) -> None:
        """From now on keep which endpoints' counts have changed."""
        if self._changes is None:
            self._changes = []

    def changes(self) -> int:
        """The number of changes since recording began: the place from which `changed_since` goes on."""
        return self._forgotten + len(self._changes or ())

    def changed_since(self, place: int) -> Sequence[str] | None:
        """The identities whose counts changed after a place, maybe repeated; None if that is too long ago."""
        start = place - self._forgotten
        if start < 0 or self._changes is None:
            return None
        return self._changes[start:]

    def _record(self, changes: list[str], identity: str) -> None:
        changes.append(identity)
        if len(changes) >= 2 * MAX_CHANGES:
            del changes[:MAX_CHANGES]
            self._forgotten += MAX_CHANGES
