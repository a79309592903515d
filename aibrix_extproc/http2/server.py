"""The server: listens, holds all connections to the limits that they share, and drains."""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Final

from aibrix_extproc.http2.acceptor import Acceptor
from aibrix_extproc.http2.admission import Admission
from aibrix_extproc.http2.call_table import CallTable
from aibrix_extproc.http2.handler import Method
from aibrix_extproc.http2.limits import ConnectionLimits
from aibrix_extproc.http2.listener_limits import ListenerLimits, Refusal
from aibrix_extproc.http2.memory_use import MemoryUse
from aibrix_extproc.http2.peer_table import PeerUsage
from aibrix_extproc.http2.protocol import ServerProtocol
from aibrix_extproc.http2.rate_limited_log import RateLimitedLog
from aibrix_extproc.http2.sockets import listening_sockets
from aibrix_extproc.http2.status import Status
from aibrix_extproc.http2.timeouts import Timeouts
from aibrix_extproc.http2.transport_security import TransportSecurity

logger = logging.getLogger(__name__)

BACKLOG: Final = 1024
CLOSED_LINES: Final = 20  # a minute


class GrpcServer:
    """Serves gRPC methods by path on one listener. Make it inside of a running event loop."""

    def __init__(
        self,
        methods: Mapping[bytes, Method],
        *,
        max_message_bytes: int,
        listener_limits: ListenerLimits | None = None,
        limits: ConnectionLimits | None = None,
        timeouts: Timeouts | None = None,
        on_refusal: Callable[[Refusal], None] = lambda _: None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.timeouts = timeouts or Timeouts()
        self.memory = MemoryUse()
        self.draining = False
        self._methods = methods
        self._limits = limits or ConnectionLimits()
        self._max_message_bytes = max_message_bytes
        self._on_refusal = on_refusal
        self._tls: TransportSecurity | None = None
        self._full_log = RateLimitedLog(logger, self.loop.time, 1)
        self._closed_log = RateLimitedLog(logger, self.loop.time, CLOSED_LINES)
        self._protocols: set[ServerProtocol] = set()
        self._admission = Admission(listener_limits or ListenerLimits(), self._admitted, on_refusal)
        self._acceptor: Acceptor[ServerProtocol] | None = None
        self._progress_timer: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()  # set while draining: a connection sent something or is closed

    @property
    def running(self) -> int:
        """How many calls are open."""
        return sum(protocol.running for protocol in self._protocols)

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._protocols)

    @property
    def arriving(self) -> int:
        """How many connections are in their TLS handshake."""
        return len(self._acceptor.arriving) if self._acceptor is not None else 0

    @property
    def buffered(self) -> int:
        """Bytes of messages that are incomplete or wait for a handler."""
        return self.memory.buffered

    async def start(self, host: str, port: int, tls: TransportSecurity | None = None) -> int:
        """Listen, with TLS if `tls` is given, and return the port. Raises OSError."""
        listeners = listening_sockets(host, port, BACKLOG)
        self._tls = tls
        context = None if tls is None else lambda: tls.context
        self._acceptor = Acceptor(
            *(lambda usage: ServerProtocol(self, usage), self._admit, self._on_refusal, self.timeouts, context)
        )
        self._acceptor.open(listeners)
        self._schedule_check()
        return int(listeners[0].getsockname()[1])

    def _schedule_check(self) -> None:
        self._progress_timer = self.loop.call_later(self.timeouts.progress_seconds, self._check_progress)

    def _check_progress(self) -> None:
        """One timer for all connections."""
        self._schedule_check()
        for protocol in tuple(self._protocols):
            protocol.check_progress()
        self._admission.retire_idle(self.loop.time())

    # ---- ProtocolHost

    def register(self, protocol: ServerProtocol) -> CallTable:
        """Add a connection and make its calls."""
        if self._acceptor is not None:
            self._acceptor.arriving.pop(protocol, None)
        self._protocols.add(protocol)
        return CallTable(
            *(self._methods, self.loop, protocol.flush_soon, self._limits),
            max_message_bytes=self._max_message_bytes,
            memory=self.memory,
            usage=protocol.usage,
            refuse=self._on_refusal,
        )

    def unregister(self, protocol: ServerProtocol) -> None:
        """Remove a connection that is closed."""
        if protocol in self._protocols:
            self._protocols.discard(protocol)
            protocol.usage.close_connection()
        self.notify_change()

    def cancel_handshake(self, protocol: ServerProtocol) -> None:
        """Close a connection that is still in its TLS handshake."""
        if self._acceptor is not None:
            self._acceptor.cancel_handshake(protocol)

    def refuse_client(self, connection: ssl.SSLObject) -> str | None:
        """Why the client of a TLS connection is refused; None if it is accepted."""
        reason = None if self._tls is None else self._tls.refuse_client(connection)
        if reason is not None:
            self._on_refusal(Refusal.CLIENT_CERTIFICATE)
        return reason

    def enforce_send_limit(self) -> None:
        """While too much is unsent, close the connection that has most of it."""
        limit = self._limits.unsent_bytes_together
        if self.memory.unsent <= limit:
            return
        for protocol in self._protocols:  # peers may have read since the last update
            protocol.update_unsent()
        while self.memory.unsent > limit:
            max(self._protocols, key=lambda protocol: protocol.unsent).close_slow_reader()

    def log_closed(self, reason: str) -> None:
        """Log that the server closes a connection for something that its peer did."""
        self._closed_log.warn(f"connection closed: {reason}")

    def notify_change(self) -> None:
        """Wake `drain`, which waits for calls and connections to end."""
        if self.draining:
            self._changed.set()

    def _admitted(self) -> Iterable[ServerProtocol]:
        return chain(self._protocols, self._acceptor.arriving if self._acceptor is not None else ())

    def _admit(self, peer: str) -> PeerUsage | None:
        usage = self._admission.admit(peer, self.loop.time())
        if usage is None:
            limits = self._admission.limits
            fields = {"limit": limits.connections, "limit_of_peer": limits.connections_of_peer}
            self._full_log.warn("too many connections, new ones are closed", peer=peer, **fields)
        return usage

    # ---- the end

    async def drain(self, seconds: float) -> None:
        """Accept no new calls, let running ones finish within this time, then close everything."""
        self.draining = True
        if self._acceptor is not None:
            self._acceptor.close()
        for protocol in tuple(self._protocols):
            protocol.announce_end()
        await asyncio.sleep(min(self.timeouts.notice_seconds, seconds))
        for protocol in tuple(self._protocols):
            protocol.refuse_new()
        await self._wait_until(lambda: not self.running, seconds)
        for protocol in tuple(self._protocols):
            protocol.fail_calls(Status.UNAVAILABLE, "the server is going away")
        await self._wait_until(lambda: not self._protocols, 2 * self.timeouts.linger_seconds)
        if self._protocols:
            logger.warning("connections did not close in time", extra={"connections": len(self._protocols)})
            for protocol in tuple(self._protocols):
                protocol.abort()
        if self._acceptor is not None:
            self._acceptor.cancel_handshakes()
        if self._progress_timer is not None:
            self._progress_timer.cancel()

    async def _wait_until(self, condition: Callable[[], bool], seconds: float) -> None:
        """Return when the condition holds or the time is up."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
