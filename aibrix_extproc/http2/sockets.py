"""Sockets: listening ones that mean the same on every event loop, and the TCP options of accepted ones."""

import socket
from typing import Final

EVERYWHERE: Final = "::"  # all addresses of both families; event loops would leave IPv4 out
# The kernel notices a peer that vanished: after half a minute if we owe it nothing, and after the same time if it does
# not acknowledge what we sent. A PING of ours would add frames and timers, and would not find out more.
_TCP_OPTIONS: Final = (
    (socket.IPPROTO_TCP, "TCP_NODELAY", 1),
    (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
    (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 15),
    (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 5),
    (socket.IPPROTO_TCP, "TCP_KEEPCNT", 3),
    (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", 30_000),
)


def listening_socket(host: str, port: int, backlog: int | None = None) -> socket.socket:
    """A socket that listens at this address. Raises OSError."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    both = host == EVERYWHERE and socket.has_dualstack_ipv6()
    return socket.create_server((str(address[0]), port), family=family, backlog=backlog, dualstack_ipv6=both)


def listening_sockets(host: str, port: int, backlog: int) -> list[socket.socket]:
    """A socket for each address of a host name. Raises OSError."""
    if host == EVERYWHERE:
        return [listening_socket(host, port, backlog)]
    found = dict.fromkeys(str(one[4][0]) for one in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    listeners: list[socket.socket] = []
    try:
        for address in found:
            listeners.append(listening_socket(address, port, backlog))
    except OSError:
        for one in listeners:
            one.close()
        raise
    return listeners


def set_tcp_options(connection: socket.socket) -> None:
    """Switch on keepalive and switch off Nagle's algorithm, as far as the system has the options."""
    for level, name, value in _TCP_OPTIONS:
        option = getattr(socket, name, None)
        if option is not None:
            connection.setsockopt(level, option, value)
