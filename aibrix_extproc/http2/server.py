"""Sockets and the loop: accepts connections, writes each batch of answers in one go, drains in two steps."""

import asyncio
import contextlib
import logging
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from aibrix_extproc.http2.bounds import Bounds, Refusal
from aibrix_extproc.http2.calls import Calls
from aibrix_extproc.http2.door import Door
from aibrix_extproc.http2.guests import Guests
from aibrix_extproc.http2.handler import Method
from aibrix_extproc.http2.limits import Account, Limits
from aibrix_extproc.http2.link import Link
from aibrix_extproc.http2.seldom import Seldom
from aibrix_extproc.http2.shares import Share
from aibrix_extproc.http2.sockets import listening_sockets
from aibrix_extproc.http2.status import Status
from aibrix_extproc.tls.credentials import ServerCredentials
from aibrix_extproc.tls.peers import refusal

logger = logging.getLogger(__name__)

BACKLOG: Final = 1024
CLOSED_LINES: Final = 20  # a minute


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the server waits for peers."""

    greeting_seconds: float = 10.0  # for the preface and SETTINGS of a new connection
    goodbye_seconds: float = 1.0  # for a peer to take our last words
    notice_seconds: float = 0.1  # between the two steps of GOAWAY: longer than a round trip
    # Frames, header blocks, messages and answers that take longer end; 50 MB in that time are 7 Mbit/s.
    progress_seconds: float = 60.0


class LeanServer:
    """Serves gRPC methods by path on one listener."""

    def __init__(
        self,
        methods: Mapping[bytes, Method],
        *,
        max_message_bytes: int,
        bounds: Bounds | None = None,
        limits: Limits | None = None,
        patience: Patience | None = None,
        on_refusal: Callable[[Refusal], None] = lambda _: None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.patience = patience or Patience()
        self._methods = methods
        self._limits = limits or Limits()
        self._max_message_bytes = max_message_bytes
        self._on_refusal = on_refusal
        self._tls: ServerCredentials | None = None
        self._say_full = Seldom(logger, self.loop.time, 1)
        self._say_closed = Seldom(logger, self.loop.time, CLOSED_LINES)
        self.account = Account()
        self._links: set[Link] = set()
        self._guests = Guests(bounds or Bounds(), self._links, on_refusal)
        self._door: Door | None = None
        self._looking: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()  # while draining: a connection wrote something or is gone
        self.draining = False

    @property
    def running(self) -> int:
        """Calls that are open."""
        return sum(link.running for link in self._links)

    @property
    def connections(self) -> int:
        """Connections that are open."""
        return len(self._links)

    @property
    def arriving(self) -> int:
        """Connections whose TLS handshake is not done."""
        return len(self._door.arriving) if self._door is not None else 0

    @property
    def held(self) -> int:
        """Bytes of messages that are not complete or that wait."""
        return self.account.held

    async def start(self, host: str, port: int, tls: ServerCredentials | None = None) -> int:
        """Listen, with TLS if there are credentials; returns the port. Raises OSError."""
        listeners = listening_sockets(host, port, BACKLOG)
        self._tls = tls
        context = None if tls is None else lambda: tls.context
        self._door = Door(lambda share: Link(self, share), self._admit, self._on_refusal, self.patience, context)
        self._door.open(listeners)
        self._looking = self.loop.call_later(self.patience.progress_seconds, self._look)
        return int(listeners[0].getsockname()[1])

    def _look(self) -> None:
        """Find what does not get on: one timer for all connections."""
        self._looking = self.loop.call_later(self.patience.progress_seconds, self._look)
        for link in tuple(self._links):
            link.look()
        self._guests.retire_idle(self.loop.time())

    # ---- for links

    def accept(self, link: Link) -> Calls:
        """The calls of a new connection."""
        if self._door is not None:
            self._door.arriving.discard(link)
        self._links.add(link)
        return Calls(
            *(self._methods, self.loop, link.flush_soon, self._limits),
            max_message_bytes=self._max_message_bytes,
            account=self.account,
            share=link.share,
            refuse=self._on_refusal,
        )

    def stranger(self, tls: ssl.SSLObject) -> str | None:
        """Why the client at the other end is not let in; None if it is."""
        if self._tls is None or self._tls.client_ca is None:
            return None
        reason = refusal(tls, self._tls.names, time.time())
        if reason is not None:
            self._on_refusal(Refusal.CLIENT_CERTIFICATE)
        return reason

    def _admit(self, peer: str) -> Share | None:
        share = self._guests.admit(peer, self.loop.time())
        if share is None:
            bounds = self._guests.shares.bounds
            limits = {"limit": bounds.connections, "limit_of_peer": bounds.connections_of_peer}
            self._say_full.warn("too many connections, new ones are closed", peer=peer, **limits)
        return share

    def more_waits(self) -> None:
        """Hold the server to its bound on answers that are not taken: the connection that most waits for has to go."""
        most = self._limits.unsent_bytes_together
        if self.account.unsent <= most:
            return
        for link in self._links:  # what was taken since is not told
            link.count()
        while self.account.unsent > most:
            max(self._links, key=lambda link: link.unsent).give_up()

    def closed(self, reason: str) -> None:
        """A connection is closed for a fault of its peer."""
        self._say_closed.warn(f"connection closed: {reason}")

    def changed(self) -> None:
        """Something may be over."""
        if self.draining:
            self._changed.set()

    def forget(self, link: Link) -> None:
        """A connection is gone."""
        if link in self._links:
            self._links.discard(link)
            link.share.leave()
        self.changed()

    # ---- the end

    async def drain(self, seconds: float) -> None:
        """Take no new calls, let running ones finish within the time, close."""
        self.draining = True
        if self._door is not None:
            self._door.close()
        for link in tuple(self._links):
            link.announce_end()
        await asyncio.sleep(min(self.patience.notice_seconds, seconds))
        for link in tuple(self._links):
            link.refuse_new()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._until_nothing_runs()
        for link in tuple(self._links):
            link.cut(Status.UNAVAILABLE, "the server is going away")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * self.patience.goodbye_seconds):
                await self._until_nobody_is_left()
        if self._links:
            logger.warning("connections did not close in time", extra={"connections": len(self._links)})
            for link in tuple(self._links):
                link.abort()
        if self._door is not None:
            self._door.abandon()
        if self._looking is not None:
            self._looking.cancel()

    async def _until_nothing_runs(self) -> None:
        while self.running:
            self._changed.clear()
            await self._changed.wait()

    async def _until_nobody_is_left(self) -> None:
        while self._links:
            self._changed.clear()
            await self._changed.wait()
