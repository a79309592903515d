"""An HTTP server for an aiohttp application: how it listens, on which addresses, and how it ends."""

import socket
from typing import Final

from aiohttp import web

EVERYWHERE: Final = "::"  # all addresses of both families; event loops would leave IPv4 out
KEEPALIVE_SECONDS: Final = 75.0
_MAX_LINE_BYTES: Final = 65_536  # of a URL or a header: more than Envoy takes, whose refusals are the API's
_MAX_HEADERS: Final = 256


class WebServer:
    """Serves one application on one port."""

    def __init__(self, app: web.Application) -> None:
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            keepalive_timeout=KEEPALIVE_SECONDS,
            auto_decompress=False,
            max_line_size=_MAX_LINE_BYTES,
            max_field_size=_MAX_LINE_BYTES,
            max_headers=_MAX_HEADERS,
        )

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port. Raises OSError if that is impossible."""
        await self._runner.setup()
        site: web.BaseSite = web.TCPSite(self._runner, host, port)
        if host == EVERYWHERE and socket.has_dualstack_ipv6():
            both = socket.create_server((host, port), family=socket.AF_INET6, dualstack_ipv6=True)
            site = web.SockSite(self._runner, both)
        await site.start()
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Close the listener, then wait for the requests that run."""
        await self._runner.cleanup()
