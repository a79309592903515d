"""Cordons: endpoints that get no new requests because somebody said so. What they run goes on to its end.

The health of a cordoned endpoint stays what it is. A cordon may have an end, at which every gateway lifts it by itself,
so that nobody has to be alive for it.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.fleet.selector import InvalidSelector, Selector, parse_selector, selected


class Cordon(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One cordon, for the endpoints that one of the first four fields names."""

    identity: str = ""  # of an endpoint: a pod that replaces it is free
    address: str = ""  # ip:port
    pod: str = ""  # its name, or namespace/name: all of its endpoints
    selector: str = ""  # of labels: also endpoints that join later
    reason: str = ""
    owner: str = ""  # the operation run that it belongs to; empty: it was made by hand
    by: str = ""  # the caller
    wall_created_at: float = 0.0  # seconds since the epoch
    wall_expires_at: float | None = None

    def is_over(self, wall_now: float) -> bool:
        """Whether it has ended."""
        return self.wall_expires_at is not None and wall_now >= self.wall_expires_at


class Cordons:
    """All cordons of a moment. Costs a few lookups for an endpoint, and a match for each selector."""

    def __init__(self, cordons: Iterable[Cordon], wall_now: float) -> None:
        """Indexes the cordons. Those that are over do not count; one whose selector cannot be read concerns nothing."""
        self._by_identity: dict[str, Cordon] = {}
        self._by_address: dict[str, Cordon] = {}
        self._by_pod: dict[str, Cordon] = {}
        self._by_selector: list[tuple[Selector, Cordon]] = []
        self.wall_next_end: float | None = None
        for one in cordons:
            if not one.is_over(wall_now):
                self._add(one)

    def _add(self, one: Cordon) -> None:
        for name, found in (
            (one.identity, self._by_identity), (one.address, self._by_address), (one.pod, self._by_pod),
        ):  # fmt: skip
            if name:
                found.setdefault(name, one)
        if one.selector:
            try:
                self._by_selector.append((parse_selector(one.selector), one))
            except InvalidSelector:
                return
        if one.wall_expires_at is not None:
            self.wall_next_end = min(one.wall_expires_at, self.wall_next_end or one.wall_expires_at)

    def __bool__(self) -> bool:
        return bool(self._by_identity or self._by_address or self._by_pod or self._by_selector)

    def of(self, endpoint: Endpoint) -> Cordon | None:
        """A cordon of the endpoint; None if there is none."""
        found = self._by_identity.get(endpoint.identity) or self._by_address.get(endpoint.address)
        if found is None and self._by_pod and endpoint.name:
            found = self._by_pod.get(endpoint.name) or self._by_pod.get(endpoint.name.rpartition("/")[2])
        if found is None:
            found = next((one for terms, one in self._by_selector if selected(terms, (endpoint,))), None)
        return found

    def reason(self, endpoint: Endpoint) -> str:
        """Why the endpoint is cordoned; empty if it is not."""
        found = self.of(endpoint)
        return "" if found is None else found.reason or (f"operation run {found.owner}" if found.owner else "cordoned")


NO_CORDONS: Final = Cordons((), 0.0)
