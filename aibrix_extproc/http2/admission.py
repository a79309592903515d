"""The limits on connections: which new ones are accepted, and which idle ones are closed."""

from collections.abc import Callable, Iterable
from typing import Final, Protocol

from aibrix_extproc.http2.listener_limits import ListenerLimits, Refusal
from aibrix_extproc.http2.peer_table import PeerTable, PeerUsage
from aibrix_extproc.http2.token_bucket import TokenBucket

# The search for a connection that makes room takes a millisecond when there are thousands.
_SEARCHES: Final = 20
_SEARCHES_PER_SECOND: Final = 20.0


class AdmittedConnection(Protocol):
    """What admission needs of a connection."""

    @property
    def usage(self) -> PeerUsage:
        """The usage of its peer."""

    @property
    def running(self) -> int:
        """How many streams it has."""

    @property
    def retired(self) -> bool:
        """Whether `retire` was called."""

    @property
    def used_at(self) -> float:
        """When it last had a stream, or was made; monotonic seconds."""

    def retire(self) -> None:
        """Close it gracefully: a stream that is on its way is still served."""


class Admission:
    """Accepts connections within the limits."""

    def __init__(
        self,
        limits: ListenerLimits,
        connections: Iterable[AdmittedConnection],
        refuse: Callable[[Refusal], None],
    ) -> None:
        self.limits = limits
        self._peers = PeerTable(limits)
        self._connections = connections
        self._refuse = refuse
        self._searches = TokenBucket(_SEARCHES, _SEARCHES_PER_SECOND)

    def admit(self, peer: str, now: float) -> PeerUsage | None:
        """Count a new connection of a peer and return the peer's usage; None if the connection is refused."""
        usage = self._peers.usage_of(peer)
        if usage.connections >= self.limits.connections_of_peer:
            self._refuse(Refusal.CONNECTIONS_OF_PEER)
            return None
        if self._peers.connections >= self.limits.connections and not self._make_room(usage, now):
            self._refuse(Refusal.CONNECTIONS)
            return None
        self._peers.open_connection(usage)
        return usage

    def _make_room(self, newcomer: PeerUsage, now: float) -> bool:
        """Close an idle connection of the peer that has most, if the newcomer has fewer."""
        if not self._searches.spend(now):
            return False
        idle = [one for one in self._connections if not one.running and not one.retired]
        if not idle:
            return False
        found = max(idle, key=lambda one: (one.usage.connections, -one.used_at))
        if found.usage.connections <= newcomer.connections:
            return False
        found.retire()
        self._refuse(Refusal.EVICTED)
        return True

    def retire_idle(self, now: float) -> None:
        """Close the connections that were idle for too long."""
        for one in tuple(self._connections):
            if not one.running and not one.retired and now - one.used_at >= self.limits.idle_seconds:
                one.retire()
                self._refuse(Refusal.IDLE)
