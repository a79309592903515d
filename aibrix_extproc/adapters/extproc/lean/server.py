"""Sockets and the loop: accepts connections, writes each batch of answers in one go, drains in two steps."""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable, Mapping
from typing import cast

from aibrix_extproc.adapters.extproc.lean.calls import Calls, Method, Status
from aibrix_extproc.adapters.extproc.lean.limits import Limits

logger = logging.getLogger(__name__)

WRITE_HIGH_WATER_BYTES = 4 * 1024 * 1024
GOAWAY_NOTICE_SECONDS = 0.1  # between the two steps of GOAWAY: longer than a round trip


class _Link(asyncio.Protocol):
    """One TCP connection."""

    def __init__(self, server: "LeanServer") -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._calls: Calls | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by class
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_WATER_BYTES)
        self._calls = self._server.accept(self, self.flush)
        self.flush()

    def data_received(self, data: bytes) -> None:
        assert self._calls is not None
        self._calls.connection.receive(data, self._server.loop.time())
        self.flush()

    def flush(self) -> None:
        """Write what there is to write; hang up after the last word."""
        transport, calls = self._transport, self._calls
        if transport is None or calls is None:
            return
        out = calls.connection.take()
        if out:
            transport.write(out)
        if calls.connection.closing:
            if calls.connection.fault:
                logger.warning("connection closed: %s", calls.connection.fault)
                calls.connection.fault = None
            transport.close()

    def pause_writing(self) -> None:
        """The peer does not take our answers: do not take its questions."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._calls is not None:
            self._calls.connection.lost()
            self._server.forget(self)

    def announce_end(self) -> None:
        """First step of the drain."""
        if self._calls is not None:
            self._calls.connection.announce_end()
            self.flush()

    def refuse_new(self) -> None:
        """Second step."""
        if self._calls is not None:
            self._calls.connection.refuse_new()
            self.flush()

    def cut(self) -> None:
        """The time to drain is up."""
        if self._calls is not None:
            self._calls.cut(Status.UNAVAILABLE, "the server is going away")
            self.flush()
        if self._transport is not None:
            self._transport.close()

    @property
    def running(self) -> int:
        """Calls that are open on this connection."""
        return self._calls.running if self._calls is not None else 0


class LeanServer:
    """Serves gRPC methods by path on one listener."""

    def __init__(
        self, methods: Mapping[bytes, Method], *, max_message_bytes: int, limits: Limits | None = None
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self._methods = methods
        self._limits = limits or Limits()
        self._max_message_bytes = max_message_bytes
        self._links: set[_Link] = set()
        self._draining = False
        self._server: asyncio.Server | None = None
        self._idle = asyncio.Event()  # no connection is left
        self._quiet = asyncio.Event()  # no call is open

    @property
    def running(self) -> int:
        """Calls that are open."""
        return sum(link.running for link in self._links)

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Listen; returns the port. With TLS the context must offer `h2` by ALPN."""
        self._server = await self.loop.create_server(lambda: _Link(self), host, port, ssl=tls, backlog=1024)
        return int(self._server.sockets[0].getsockname()[1])

    def accept(self, link: _Link, flush: Callable[[], None]) -> Calls:
        """The calls of a new connection."""
        self._links.add(link)
        return Calls(
            self._methods,
            self.loop,
            flush,
            self._limits,
            max_message_bytes=self._max_message_bytes,
            on_call_over=self._on_call_over,
        )

    def _on_call_over(self) -> None:
        if self._draining and not self.running:
            self._quiet.set()

    def forget(self, link: _Link) -> None:
        """A connection is gone."""
        self._links.discard(link)
        if not self._links:
            self._idle.set()

    async def drain(self, seconds: float) -> None:
        """Take no new calls, let running ones finish within the time, close."""
        self._draining = True
        if self._server is not None:
            self._server.close()
        for link in tuple(self._links):
            link.announce_end()
        await asyncio.sleep(min(GOAWAY_NOTICE_SECONDS, seconds))
        for link in tuple(self._links):
            link.refuse_new()
        if self.running:
            self._quiet.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._quiet.wait()
        for link in tuple(self._links):
            link.cut()
        if self._links:
            self._idle.clear()
            try:
                async with asyncio.timeout(1.0):
                    await self._idle.wait()
            except TimeoutError:
                logger.warning("connections did not close in time", extra={"connections": len(self._links)})
