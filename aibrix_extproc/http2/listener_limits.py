"""Limits on the connections and streams of one listener, and the reasons for which the server refuses or ends them."""

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class ListenerLimits:
    """Limits over all connections of a listener, and over those of one peer."""

    connections: int = 4096  # each worker thread of each Envoy has one: a hundred Envoys of sixteen, twice over
    connections_of_peer: int = 1024
    idle_seconds: float = 600.0  # the server closes a connection that had no stream for so long
    streams: int = 20_000
    streams_of_peer: int = 10_000


class Refusal(StrEnum):
    """Why the server refused or ended a connection or a stream. The values are labels of a metric."""

    CONNECTIONS = "connections"  # the listener has too many
    CONNECTIONS_OF_PEER = "connections_of_peer"  # the peer has too many
    HANDSHAKE = "handshake"  # the TLS handshake failed or took too long
    CLIENT_CERTIFICATE = "client_certificate"  # the client has none, or one that is not accepted
    IDLE = "idle"  # the connection had no stream for `idle_seconds`
    EVICTED = "evicted"  # the connection had no stream, and another peer needed its place
    STREAMS = "streams"  # the listener has too many
    STREAMS_OF_PEER = "streams_of_peer"  # the peer has too many
    SILENT = "silent"  # no message came on the stream
