"""The certificate of a TLS listener and the clients that it accepts. Both transports read it at each handshake.

A change affects later handshakes only, never an open connection.
"""

import contextlib
import os
import ssl
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, NoReturn

from aibrix_extproc.tls.peers import refusal


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate, its chain behind it, and its private key, as PEM."""

    certificate: bytes
    key: bytes = field(repr=False)


class ServerCredentials:
    """The pair in use, and the authorities whose clients are accepted (None: every client is).

    A client's certificate must have one of `names`, unless there are none.
    """

    def __init__(self, pair: KeyPair, client_ca: bytes | None = None, names: tuple[str, ...] = ()) -> None:
        self.pair = pair
        self.client_ca = client_ca
        self.names = names
        # A new context for each change: loaded into the old one, a pair of another kind (RSA, EC) would only be added,
        # and sessions of clients whose authority is gone could be resumed.
        self.context = server_context(pair, client_ca)

    def replace(self, pair: KeyPair) -> None:
        """Use this pair from the next handshake on. Raises ssl.SSLError if OpenSSL rejects it."""
        self.context = server_context(pair, self.client_ca)
        self.pair = pair

    def trust(self, client_ca: bytes) -> None:
        """Accept clients of these authorities from the next handshake on. Raises ssl.SSLError."""
        self.context = server_context(self.pair, client_ca)
        self.client_ca = client_ca

    def refuse_client(self, connection: ssl.SSLObject) -> str | None:
        """Why the client of a finished handshake is refused; None if it is accepted."""
        return None if self.client_ca is None else refusal(connection, self.names, time.time())


def server_context(pair: KeyPair, client_ca: bytes | None = None) -> ssl.SSLContext:
    """A context for TLS 1.2 or newer and HTTP/2 by ALPN. Raises ssl.SSLError for a bad pair or authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    with _as_file(pair.certificate) as certificate, _as_file(pair.key) as key:
        context.load_cert_chain(certificate, key, password=_no_password)
    if client_ca is not None:
        context.load_verify_locations(cadata=client_ca.decode("ascii", "replace"))
        context.verify_mode = ssl.CERT_REQUIRED
        # A resumed session is not verified again, and would outlive the client's certificate.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    return context


@contextlib.contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """A path to the content, because the `ssl` module takes paths only. On Linux the key is never written to a disk."""
    with _anonymous() as file:
        file.write(content)
        file.flush()
        file.seek(0)  # where opening the path means sharing the position
        yield f"/dev/fd/{file.fileno()}"


def _anonymous() -> BinaryIO:
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("pem"), "w+b")
    return tempfile.TemporaryFile()


def _no_password() -> NoReturn:
    raise ssl.SSLError("the key is encrypted")  # otherwise OpenSSL asks on the terminal
