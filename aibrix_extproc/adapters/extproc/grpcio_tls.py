"""TLS on the grpcio transport: its certificate, and the clients that it accepts."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grpc

from aibrix_extproc.http2.listener_limits import Refusal
from aibrix_extproc.tls.credentials import ServerCredentials
from aibrix_extproc.tls.peers import allowed

_Context = Any  # grpc.aio.ServicerContext; grpcio ships no types


def peer_credentials(credentials: ServerCredentials) -> Any:
    """Server credentials for grpc, which reads the current pair at each handshake. TLS 1.2 or newer."""

    def configuration() -> Any:
        pair = credentials.pair
        return grpc.ssl_server_certificate_configuration([(pair.key, pair.certificate)], credentials.client_ca)

    shown = credentials.context

    def changed() -> Any:
        nonlocal shown
        if credentials.context is shown:
            return None
        shown = credentials.context
        return configuration()

    requires = credentials.client_ca is not None
    return grpc.dynamic_ssl_server_credentials(configuration(), changed, require_client_authentication=requires)


class Guard:
    """Refuses calls of clients whose certificate has no allowed name. grpc has checked the rest of the certificate."""

    def __init__(self, on_refusal: Callable[[Refusal], None]) -> None:
        self._on_refusal = on_refusal
        self.credentials: ServerCredentials | None = None

    async def check(self, context: _Context) -> None:
        """End the call with PERMISSION_DENIED, or do nothing."""
        if self.credentials is None or self.credentials.client_ca is None or not self.credentials.names:
            return
        if not allowed(_names(context.auth_context()), self.credentials.names):
            self._on_refusal(Refusal.CLIENT_CERTIFICATE)
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "no name of the certificate is allowed")


def _names(context: Mapping[str, Sequence[bytes]]) -> list[str]:
    found = context.get("x509_subject_alternative_name") or context.get("x509_common_name") or ()
    return [one.decode("utf-8", "replace") for one in found]
