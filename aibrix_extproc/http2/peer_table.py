"""What each peer holds of a server: connections and streams, counted and bounded. Without I/O and without a clock."""

import ipaddress
from typing import Any, Final

from aibrix_extproc.http2.listener_limits import ListenerLimits, Refusal

RESERVED_STREAMS: Final = 1000  # for health checks when all streams are taken
_HEALTH: Final = b"/grpc.health.v1."
_SITE_BITS: Final = 64  # a host with IPv6 has as many addresses as it likes


def peer_key(address: Any) -> str:
    """The peer behind a socket's address: the host, or the network of one with IPv6."""
    if not isinstance(address, tuple) or not address:
        return "local"  # a Unix socket
    host = ipaddress.ip_address(str(address[0]).partition("%")[0])
    if isinstance(host, ipaddress.IPv6Address):
        if host.ipv4_mapped is not None:
            return str(host.ipv4_mapped)
        if not host.is_loopback:
            return str(ipaddress.ip_network((host, _SITE_BITS), strict=False))
    return str(host)


class PeerUsage:
    """What one peer holds."""

    __slots__ = ("_peers", "connections", "peer", "streams")

    def __init__(self, peers: "PeerTable", peer: str) -> None:
        self._peers = peers
        self.peer = peer
        self.connections = 0
        self.streams = 0

    def open_stream(self, path: bytes) -> Refusal | None:
        """Take a stream, or say why not."""
        return self._peers.open_stream(self, path)

    def close_stream(self) -> None:
        """Give a stream back."""
        self.streams -= 1
        self._peers.streams -= 1

    def leave(self) -> None:
        """Give a connection back."""
        self._peers.leave(self)


class PeerTable:
    """What all peers hold."""

    def __init__(self, bounds: ListenerLimits) -> None:
        self.bounds = bounds
        self.connections = 0
        self.streams = 0
        self._by_peer: dict[str, PeerUsage] = {}

    def of(self, peer: str) -> PeerUsage:
        """The peer's usage; it lasts as long as the peer has a connection."""
        return self._by_peer.get(peer) or PeerUsage(self, peer)

    def enter(self, usage: PeerUsage) -> None:
        """A connection of this peer comes in."""
        self._by_peer[usage.peer] = usage
        usage.connections += 1
        self.connections += 1

    def leave(self, usage: PeerUsage) -> None:
        """One of its connections is gone."""
        usage.connections -= 1
        self.connections -= 1
        if not usage.connections:
            self._by_peer.pop(usage.peer, None)

    def open_stream(self, usage: PeerUsage, path: bytes) -> Refusal | None:
        """Count a stream, unless there are too many."""
        bounds, reserve = self.bounds, 0
        if self.streams >= bounds.streams or usage.streams >= bounds.streams_of_peer:
            reserve = RESERVED_STREAMS if path.startswith(_HEALTH) else 0
            if self.streams >= bounds.streams + reserve:
                return Refusal.STREAMS
            if usage.streams >= bounds.streams_of_peer + reserve:
                return Refusal.STREAMS_OF_PEER
        self.streams += 1
        usage.streams += 1
        return None
