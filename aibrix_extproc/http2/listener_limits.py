"""Limits on what peers may take of the listener, and the names of what happens at them."""

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class ListenerLimits:
    """Of one listener. The lean transport keeps all of them, grpcio those that are not of a peer."""

    connections: int = 4096  # each worker thread of each Envoy has one: a hundred Envoys of sixteen, twice over
    connections_of_peer: int = 1024
    idle_seconds: float = 600.0  # a connection without streams is closed then
    streams: int = 20_000
    streams_of_peer: int = 10_000


class Refusal(StrEnum):
    """Why a connection or a stream was refused or ended; a label of a metric."""

    CONNECTIONS = "connections"  # too many
    CONNECTIONS_OF_PEER = "connections_of_peer"
    HANDSHAKE = "handshake"  # no TLS, or not in time
    CLIENT_CERTIFICATE = "client_certificate"  # none, or one that is not accepted
    IDLE = "idle"  # it had no streams for long
    EVICTED = "evicted"  # it had none, and another peer needed the place
    STREAMS = "streams"  # too many
    STREAMS_OF_PEER = "streams_of_peer"
    SILENT = "silent"  # a stream without a message
