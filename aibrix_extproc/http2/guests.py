"""Who comes in and who has to go: the bounds on connections, and the idle ones that make room."""

from collections.abc import Callable, Iterable
from typing import Final, Protocol

from aibrix_extproc.http2.bounds import Bounds, Refusal
from aibrix_extproc.http2.limits import Budget
from aibrix_extproc.http2.shares import Share, Shares

# Looking for a connection that makes room takes a millisecond when there are thousands.
_SEARCHES: Final = 20
_SEARCHES_PER_SECOND: Final = 20.0


class Guest(Protocol):
    """A connection."""

    @property
    def share(self) -> Share:
        """Its peer's."""

    @property
    def running(self) -> int:
        """Its streams."""

    @property
    def retired(self) -> bool:
        """Whether it was told to go."""

    @property
    def used_at(self) -> float:
        """When it last had a stream, or came."""

    def retire(self) -> None:
        """Tell it to go, in the orderly way: a stream that is on its way is still served."""


class Guests:
    """Admits connections within the bounds."""

    def __init__(self, bounds: Bounds, guests: Iterable[Guest], refuse: Callable[[Refusal], None]) -> None:
        self.shares = Shares(bounds)
        self._guests = guests
        self._refuse = refuse
        self._searches = Budget(_SEARCHES, _SEARCHES_PER_SECOND)

    def admit(self, peer: str, now: float) -> Share | None:
        """The share of a peer whose connection may come in."""
        bounds, share = self.shares.bounds, self.shares.of(peer)
        if share.connections >= bounds.connections_of_peer:
            self._refuse(Refusal.CONNECTIONS_OF_PEER)
            return None
        if self.shares.connections >= bounds.connections and not self._make_room(share, now):
            self._refuse(Refusal.CONNECTIONS)
            return None
        self.shares.enter(share)
        return share

    def _make_room(self, newcomer: Share, now: float) -> bool:
        """Let one go that is idle, of the peer that has most: only a peer with fewer gets its place."""
        if not self._searches.spend(now):
            return False
        idle = [one for one in self._guests if not one.running and not one.retired]
        if not idle:
            return False
        found = max(idle, key=lambda one: (one.share.connections, -one.used_at))
        if found.share.connections <= newcomer.connections:
            return False
        found.retire()
        self._refuse(Refusal.EVICTED)
        return True

    def retire_idle(self, now: float) -> None:
        """Let those go that were idle for too long."""
        for one in tuple(self._guests):
            if not one.running and not one.retired and now - one.used_at >= self.shares.bounds.idle_seconds:
                one.retire()
                self._refuse(Refusal.IDLE)
