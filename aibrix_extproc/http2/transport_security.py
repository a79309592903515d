"""What the server asks of whoever configures TLS."""

import ssl
from typing import Protocol


class TransportSecurity(Protocol):
    """The TLS side of a listener. The server reads it at each handshake, so it may change while the server runs."""

    @property
    def context(self) -> ssl.SSLContext:
        """The context of the next handshake. It must offer `h2` by ALPN."""
        ...

    def refuse_client(self, connection: ssl.SSLObject) -> str | None:
        """Why the client of a finished handshake is refused; None if it is accepted."""
        ...
