"""Listening sockets for addresses that both event loops and grpc take to mean different things."""

import socket
from typing import Final

EVERYWHERE: Final = "::"  # all addresses of both families; event loops would leave IPv4 out


def listening_socket(host: str, port: int, backlog: int | None = None) -> socket.socket:
    """A socket that listens there. Raises OSError."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    both = host == EVERYWHERE and socket.has_dualstack_ipv6()
    return socket.create_server((str(address[0]), port), family=family, backlog=backlog, dualstack_ipv6=both)


def listening_sockets(host: str, port: int, backlog: int) -> list[socket.socket]:
    """A socket for each address that a name has. Raises OSError."""
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
