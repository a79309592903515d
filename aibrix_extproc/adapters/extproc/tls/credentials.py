"""What a TLS listener shows its peers: one cell that both transports read at each handshake.

Replacing the pair touches no connection that is there.
"""

import contextlib
import os
import ssl
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NoReturn


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate, its chain behind it, and its private key, as PEM."""

    certificate: bytes
    key: bytes = field(repr=False)


class ServerCredentials:
    """The pair in use, and an `ssl` context that always shows it."""

    def __init__(self, pair: KeyPair) -> None:
        self.pair = pair
        self.context = self._present = server_context(pair)
        self.context.sni_callback = self._choose

    def replace(self, pair: KeyPair) -> None:
        """Show this one from the next handshake on. Raises ssl.SSLError if OpenSSL does not take it."""
        # A context of its own: loaded into the old one, a pair of another kind (RSA, EC) would only be added to it.
        self._present = server_context(pair)
        self.pair = pair

    def _choose(self, peer: Any, _: str | None, context: ssl.SSLContext) -> None:
        """Called at every handshake, whether the client names a server or not."""
        if self._present is not context:
            peer.context = self._present


def server_context(pair: KeyPair) -> ssl.SSLContext:
    """TLS 1.2 or newer, HTTP/2 by ALPN, no client certificates. Raises ssl.SSLError for a pair that is not one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    with _as_file(pair.certificate) as certificate, _as_file(pair.key) as key:
        context.load_cert_chain(certificate, key, password=_no_password)
    return context


@contextlib.contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """A path to it, because OpenSSL's interface in Python takes paths only; no key is written to a disk on Linux."""
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
