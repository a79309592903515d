"""How many connections and streams each peer has, and the limits on them. No I/O, no clock."""

import ipaddress
from typing import Any, Final

from aibrix_extproc.http2.listener_limits import ListenerLimits, Refusal

RESERVED_STREAMS: Final = 1000  # for health checks when all streams are taken
_HEALTH: Final = b"/grpc.health.v1."
_NETWORK_BITS: Final = 64  # a host with IPv6 can use any address of its network


def peer_key(address: Any) -> str:
    """The name under which a socket's address is counted: the host's address, or its network with IPv6."""
    if not isinstance(address, tuple) or not address:
        return "local"  # a Unix socket
    host = ipaddress.ip_address(str(address[0]).partition("%")[0])
    if isinstance(host, ipaddress.IPv6Address):
        if host.ipv4_mapped is not None:
            return str(host.ipv4_mapped)
        if not host.is_loopback:
            return str(ipaddress.ip_network((host, _NETWORK_BITS), strict=False))
    return str(host)


class PeerUsage:
    """The connections and streams of one peer."""

    __slots__ = ("_table", "connections", "peer", "streams")

    def __init__(self, table: "PeerTable", peer: str) -> None:
        self._table = table
        self.peer = peer
        self.connections = 0
        self.streams = 0

    def open_stream(self, path: bytes) -> Refusal | None:
        """Count a stream, or return why it is refused."""
        return self._table.open_stream(self, path)

    def close_stream(self) -> None:
        """A stream is closed."""
        self.streams -= 1
        self._table.streams -= 1

    def close_connection(self) -> None:
        """A connection is closed."""
        self._table.close_connection(self)


class PeerTable:
    """The usage of all peers."""

    def __init__(self, limits: ListenerLimits) -> None:
        self.limits = limits
        self.connections = 0
        self.streams = 0
        self._by_peer: dict[str, PeerUsage] = {}

    def usage_of(self, peer: str) -> PeerUsage:
        """The peer's usage. The table keeps it while the peer has a connection."""
        return self._by_peer.get(peer) or PeerUsage(self, peer)

    def open_connection(self, usage: PeerUsage) -> None:
        """Count a connection."""
        self._by_peer[usage.peer] = usage
        usage.connections += 1
        self.connections += 1

    def close_connection(self, usage: PeerUsage) -> None:
        """A connection is closed."""
        usage.connections -= 1
        self.connections -= 1
        if not usage.connections:
            self._by_peer.pop(usage.peer, None)

    def open_stream(self, usage: PeerUsage, path: bytes) -> Refusal | None:
        """Count a stream, or return why it is refused."""
        limits, reserve = self.limits, 0
        if self.streams >= limits.streams or usage.streams >= limits.streams_of_peer:
            reserve = RESERVED_STREAMS if path.startswith(_HEALTH) else 0
            if self.streams >= limits.streams + reserve:
                return Refusal.STREAMS
            if usage.streams >= limits.streams_of_peer + reserve:
                return Refusal.STREAMS_OF_PEER
        self.streams += 1
        usage.streams += 1
        return None
