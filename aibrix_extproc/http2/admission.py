"""Who comes in and who has to go: the bounds on connections, and the idle ones that make room."""

from collections.abc import Callable, Iterable
from typing import Final, Protocol

from aibrix_extproc.http2.limits import TokenBucket
from aibrix_extproc.http2.listener_limits import ListenerLimits, Refusal
from aibrix_extproc.http2.peer_table import PeerTable, PeerUsage

# Looking for a connection that makes room takes a millisecond when there are thousands.
_SEARCHES: Final = 20
_SEARCHES_PER_SECOND: Final = 20.0


class AdmittedConnection(Protocol):
    """A connection."""

    @property
    def usage(self) -> PeerUsage:
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


class Admission:
    """Admits connections within the bounds."""

    def __init__(
        self, bounds: ListenerLimits, guests: Iterable[AdmittedConnection], refuse: Callable[[Refusal], None]
    ) -> None:
        self.peers = PeerTable(bounds)
        self._admission = guests
        self._refuse = refuse
        self._searches = TokenBucket(_SEARCHES, _SEARCHES_PER_SECOND)

    def admit(self, peer: str, now: float) -> PeerUsage | None:
        """The usage of a peer whose connection may come in."""
        bounds, usage = self.peers.bounds, self.peers.of(peer)
        if usage.connections >= bounds.connections_of_peer:
            self._refuse(Refusal.CONNECTIONS_OF_PEER)
            return None
        if self.peers.connections >= bounds.connections and not self._make_room(usage, now):
            self._refuse(Refusal.CONNECTIONS)
            return None
        self.peers.enter(usage)
        return usage

    def _make_room(self, newcomer: PeerUsage, now: float) -> bool:
        """Let one go that is idle, of the peer that has most: only a peer with fewer gets its place."""
        if not self._searches.spend(now):
            return False
        idle = [one for one in self._admission if not one.running and not one.retired]
        if not idle:
            return False
        found = max(idle, key=lambda one: (one.usage.connections, -one.used_at))
        if found.usage.connections <= newcomer.connections:
            return False
        found.retire()
        self._refuse(Refusal.EVICTED)
        return True

    def retire_idle(self, now: float) -> None:
        """Let those go that were idle for too long."""
        for one in tuple(self._admission):
            if not one.running and not one.retired and now - one.used_at >= self.peers.bounds.idle_seconds:
                one.retire()
                self._refuse(Refusal.IDLE)
