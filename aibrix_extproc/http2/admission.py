"""The limits on connections: which new ones are accepted, and which idle ones are closed."""

from collections.abc import Callable, Iterable
from typing import Final, Protocol

from aibrix_extproc.http2.listener_limits import ListenerLimits, Refusal
from aibrix_extproc.http2.peer_table import PeerTable, PeerUsage

# A search for idle connections takes a millisecond when there are thousands. Its result serves all newcomers of this
# time, so a peer that connects again and again takes no search from others.
_SEARCH_SECONDS: Final = 0.05
LEAVING: Final = 64  # evicted connections that are not closed yet; they are beyond the limit on connections


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
    def closed(self) -> bool:
        """Whether it is gone."""

    @property
    def used_at(self) -> float:
        """When it last had a stream, or was made; monotonic seconds."""

    def retire(self) -> None:
        """Close it gracefully: a stream that is on its way is still served."""

    def abort(self) -> None:
        """Close it at once."""


def _is_idle(one: AdmittedConnection) -> bool:
    return not one.running and not one.retired and not one.closed


class Admission:
    """Accepts connections within the limits."""

    def __init__(
        self,
        limits: ListenerLimits,
        connections: Callable[[], Iterable[AdmittedConnection]],
        refuse: Callable[[Refusal], None],
    ) -> None:
        self.limits = limits
        self._peers = PeerTable(limits)
        self._connections = connections
        self._refuse = refuse
        self._idle: list[AdmittedConnection] = []  # as of the last search; the next one to be evicted is the last
        self._searched_at = float("-inf")
        self._leaving: list[AdmittedConnection] = []  # evicted and not closed yet, oldest first

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
        self._leaving = [one for one in self._leaving if not one.closed]
        self._search(now)
        while self._idle and not _is_idle(self._idle[-1]):
            self._idle.pop()
        if not self._idle or self._places(self._idle[-1].usage) <= self._places(newcomer):
            return False
        if len(self._leaving) >= LEAVING and not self._abort_one():
            return False
        found = self._idle.pop()
        found.retire()
        self._leaving.append(found)
        self._refuse(Refusal.EVICTED)
        return True

    def _search(self, now: float) -> None:
        """List the idle connections, those of the greediest peers last, and of these the longest idle last."""
        if now - self._searched_at < _SEARCH_SECONDS:
            return
        self._searched_at = now
        self._idle = [one for one in self._connections() if _is_idle(one)]
        self._idle.sort(key=lambda one: (one.usage.connections, -one.used_at))

    def _places(self, usage: PeerUsage) -> int:
        """How many connections a peer has, without those that leave."""
        return usage.connections - sum(one.usage is usage for one in self._leaving)

    def _abort_one(self) -> bool:
        """Close the oldest one of those that leave; False if all of them still have streams."""
        oldest = next((one for one in self._leaving if not one.running), None)
        if oldest is None:
            return False
        oldest.abort()
        self._leaving.remove(oldest)
        return True

    def retire_idle(self, now: float) -> None:
        """Close the connections that were idle for too long."""
        for one in tuple(self._connections()):
            if _is_idle(one) and now - one.used_at >= self.limits.idle_seconds:
                one.retire()
                self._refuse(Refusal.IDLE)
