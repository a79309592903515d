"""Clients that are taken off the network: `python -m tests.http2.vanishing HOST PORT TLS_PORT`.

Prints `kind port` for each connection, then `ready`, then nothing more.
"""

import signal
import socket
import ssl
import sys

from tests.http2 import wire

WAITS = wire.request(1) + wire.data(1, wire.message(b"wait"))
NO_ROOM = wire.settings({4: 0}) + wire.request(1) + wire.data(1, wire.message(bytes(5_000)))
MUCH_ROOM = wire.settings({4: 2**31 - 1}) + wire.window_update(0, 2**31 - 1 - 65_535) + wire.request(1)
MUCH = MUCH_ROOM + 12 * wire.raw(0, 0, 1, wire.message(bytes(500_000)))


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(host: str, port: int, tls_port: int) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    kept: list[socket.socket] = []
    for kind, said, tls in (
        ("idle", b"", False),
        ("idle with TLS", b"", True),
        ("with a stream", WAITS, False),
        ("with a stream and TLS", WAITS, True),
        ("with an answer that has no room", NO_ROOM, False),
        ("that does not read", MUCH, False),
        ("in the middle of a frame", WAITS[:-3], False),
    ):
        sock = socket.create_connection((host, tls_port if tls else port))
        one = context.wrap_socket(sock) if tls else sock
        one.sendall(wire.CLIENT_PREFACE + said)
        kept.append(one)
        say(f"{one.getsockname()[1]} {kind}")
    say("ready")
    signal.pause()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
