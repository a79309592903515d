"""Sockets and the loop: accepts connections, writes each batch of answers in one go, drains in two steps."""

import asyncio
import contextlib
import logging
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from aibrix_extproc.http2.acceptor import Acceptor
from aibrix_extproc.http2.admission import Admission
from aibrix_extproc.http2.call_table import CallTable
from aibrix_extproc.http2.handler import Method
from aibrix_extproc.http2.limits import ConnectionLimits, MemoryUse
from aibrix_extproc.http2.listener_limits import ListenerLimits, Refusal
from aibrix_extproc.http2.peer_table import PeerUsage
from aibrix_extproc.http2.protocol import ServerProtocol
from aibrix_extproc.http2.rate_limited_log import RateLimitedLog
from aibrix_extproc.http2.sockets import listening_sockets
from aibrix_extproc.http2.status import Status
from aibrix_extproc.tls.credentials import ServerCredentials
from aibrix_extproc.tls.peers import refusal

logger = logging.getLogger(__name__)

BACKLOG: Final = 1024
CLOSED_LINES: Final = 20  # a minute


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long the server waits for peers."""

    handshake_seconds: float = 10.0  # for the preface and SETTINGS of a new connection
    linger_seconds: float = 1.0  # for a peer to take our last words
    notice_seconds: float = 0.1  # between the two steps of GOAWAY: longer than a round trip
    # Frames, header blocks, messages and answers that take longer end; 50 MB in that time are 7 Mbit/s.
    progress_seconds: float = 60.0


class GrpcServer:
    """Serves gRPC methods by path on one listener."""

    def __init__(
        self,
        methods: Mapping[bytes, Method],
        *,
        max_message_bytes: int,
        bounds: ListenerLimits | None = None,
        limits: ConnectionLimits | None = None,
        timeouts: Timeouts | None = None,
        on_refusal: Callable[[Refusal], None] = lambda _: None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.timeouts = timeouts or Timeouts()
        self._methods = methods
        self._limits = limits or ConnectionLimits()
        self._max_message_bytes = max_message_bytes
        self._on_refusal = on_refusal
        self._tls: ServerCredentials | None = None
        self._full_log = RateLimitedLog(logger, self.loop.time, 1)
        self._closed_log = RateLimitedLog(logger, self.loop.time, CLOSED_LINES)
        self.memory = MemoryUse()
        self._protocols: set[ServerProtocol] = set()
        self._admission = Admission(bounds or ListenerLimits(), self._protocols, on_refusal)
        self._acceptor: Acceptor | None = None
        self._progress_timer: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()  # while draining: a connection wrote something or is gone
        self.draining = False

    @property
    def running(self) -> int:
        """Calls that are open."""
        return sum(protocol.running for protocol in self._protocols)

    @property
    def connections(self) -> int:
        """Connections that are open."""
        return len(self._protocols)

    @property
    def arriving(self) -> int:
        """Connections whose TLS handshake is not done."""
        return len(self._acceptor.arriving) if self._acceptor is not None else 0

    @property
    def buffered(self) -> int:
        """Bytes of messages that are not complete or that wait."""
        return self.memory.buffered

    async def start(self, host: str, port: int, tls: ServerCredentials | None = None) -> int:
        """Listen, with TLS if there are credentials; returns the port. Raises OSError."""
        listeners = listening_sockets(host, port, BACKLOG)
        self._tls = tls
        context = None if tls is None else lambda: tls.context
        self._acceptor = Acceptor(
            lambda usage: ServerProtocol(self, usage), self._admit, self._on_refusal, self.timeouts, context
        )
        self._acceptor.open(listeners)
        self._progress_timer = self.loop.call_later(self.timeouts.progress_seconds, self._check_progress)
        return int(listeners[0].getsockname()[1])

    def _check_progress(self) -> None:
        """Find what does not get on: one timer for all connections."""
        self._progress_timer = self.loop.call_later(self.timeouts.progress_seconds, self._check_progress)
        for protocol in tuple(self._protocols):
            protocol.check_progress()
        self._admission.retire_idle(self.loop.time())

    # ---- for protocols

    def accept(self, protocol: ServerProtocol) -> CallTable:
        """The calls of a new connection."""
        if self._acceptor is not None:
            self._acceptor.arriving.discard(protocol)
        self._protocols.add(protocol)
        return CallTable(
            *(self._methods, self.loop, protocol.flush_soon, self._limits),
            max_message_bytes=self._max_message_bytes,
            memory=self.memory,
            usage=protocol.usage,
            refuse=self._on_refusal,
        )

    def refuse_client(self, tls: ssl.SSLObject) -> str | None:
        """Why the client at the other end is not let in; None if it is."""
        if self._tls is None or self._tls.client_ca is None:
            return None
        reason = refusal(tls, self._tls.names, time.time())
        if reason is not None:
            self._on_refusal(Refusal.CLIENT_CERTIFICATE)
        return reason

    def _admit(self, peer: str) -> PeerUsage | None:
        usage = self._admission.admit(peer, self.loop.time())
        if usage is None:
            bounds = self._admission.peers.bounds
            limits = {"limit": bounds.connections, "limit_of_peer": bounds.connections_of_peer}
            self._full_log.warn("too many connections, new ones are closed", peer=peer, **limits)
        return usage

    def enforce_send_limit(self) -> None:
        """Hold the server to its bound on answers that are not taken: the connection that most waits for has to go."""
        most = self._limits.unsent_bytes_together
        if self.memory.unsent <= most:
            return
        for protocol in self._protocols:  # what was taken since is not told
            protocol.count()
        while self.memory.unsent > most:
            max(self._protocols, key=lambda protocol: protocol.unsent).close_slow_reader()

    def closed(self, reason: str) -> None:
        """A connection is closed for a fault of its peer."""
        self._closed_log.warn(f"connection closed: {reason}")

    def changed(self) -> None:
        """Something may be over."""
        if self.draining:
            self._changed.set()

    def forget(self, protocol: ServerProtocol) -> None:
        """A connection is gone."""
        if protocol in self._protocols:
            self._protocols.discard(protocol)
            protocol.usage.leave()
        self.changed()

    # ---- the end

    async def drain(self, seconds: float) -> None:
        """Take no new calls, let running ones finish within the time, close."""
        self.draining = True
        if self._acceptor is not None:
            self._acceptor.close()
        for protocol in tuple(self._protocols):
            protocol.announce_end()
        await asyncio.sleep(min(self.timeouts.notice_seconds, seconds))
        for protocol in tuple(self._protocols):
            protocol.refuse_new()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._until_nothing_runs()
        for protocol in tuple(self._protocols):
            protocol.fail_calls(Status.UNAVAILABLE, "the server is going away")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * self.timeouts.linger_seconds):
                await self._until_nobody_is_left()
        if self._protocols:
            logger.warning("connections did not close in time", extra={"connections": len(self._protocols)})
            for protocol in tuple(self._protocols):
                protocol.abort()
        if self._acceptor is not None:
            self._acceptor.cancel_handshakes()
        if self._progress_timer is not None:
            self._progress_timer.cancel()

    async def _until_nothing_runs(self) -> None:
        while self.running:
            self._changed.clear()
            await self._changed.wait()

    async def _until_nobody_is_left(self) -> None:
        while self._protocols:
            self._changed.clear()
            await self._changed.wait()
