"""How busy endpoints are: our own exact in-flight count, kept across snapshot changes.

One owner writes (the gateway's fact observer, on `placed` and `finished`), strategies read. Keyed by endpoint
identity, so a replaced pod starts at zero and a late release of the old one touches nothing of the new one.
"""

from collections.abc import Mapping
from types import MappingProxyType


class LoadBook:
    """In-flight exchanges by endpoint identity. Entries at zero are dropped, so the book is as large as the work."""

    def __init__(self) -> None:
        self._in_flight: dict[str, int] = {}
        self.view: Mapping[str, int] = MappingProxyType(self._in_flight)

    def acquire(self, identity: str) -> None:
        """Count one exchange in."""
        self._in_flight[identity] = self._in_flight.get(identity, 0) + 1

    def release(self, identity: str) -> None:
        """Count one exchange out; a release without its acquire is a bug of the caller."""
        count = self._in_flight.get(identity, 0)
        if count <= 0:
            raise ValueError(f"release without acquire: {identity}")
        if count == 1:
            del self._in_flight[identity]
        else:
            self._in_flight[identity] = count - 1

    def in_flight(self, identity: str) -> int:
        """Exchanges that are with this endpoint now."""
        return self._in_flight.get(identity, 0)

    def total(self) -> int:
        """Exchanges that are with any endpoint now."""
        return sum(self._in_flight.values())
