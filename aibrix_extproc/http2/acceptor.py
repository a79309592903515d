"""The listening sockets of a server: connections come in one by one, each after a check of who has how many.

asyncio's own servers tell of a connection after its TLS handshake. Until then it takes a quarter of a megabyte, for as
long as the peer cares to dawdle, and nothing bounds how many there are.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from aibrix_extproc.http2.listener_limits import Refusal
from aibrix_extproc.http2.peer_table import PeerUsage, peer_key
from aibrix_extproc.http2.rate_limited_log import RateLimitedLog

logger = logging.getLogger(__name__)

PAUSE_SECONDS: Final = 1.0  # when the system has no room for one more connection


class _Timeouts(Protocol):
    @property
    def handshake_seconds(self) -> float:
        """For a TLS handshake."""

    @property
    def linger_seconds(self) -> float:
        """For the end of TLS."""


class Acceptor:
    """Lets connections in, each with a protocol of its own, if `admit` finds room for their peer."""

    def __init__(
        self,
        new_protocol: Callable[[PeerUsage], asyncio.Protocol],
        admit: Callable[[str], PeerUsage | None],
        refuse: Callable[[Refusal], None],
        timeouts: _Timeouts,
        tls: Callable[[], ssl.SSLContext] | None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._new_protocol = new_protocol
        self._admit_peer = admit
        self._refuse = refuse
        self._tls = tls
        self._times = {
            "ssl_handshake_timeout": timeouts.handshake_seconds,
            "ssl_shutdown_timeout": timeouts.linger_seconds,
        }
        self._full_log = RateLimitedLog(logger, self._loop.time, 1)
        self._listening: list[asyncio.Task[None]] = []
        self._admissions: set[asyncio.Task[None]] = set()
        self.arriving: set[asyncio.Protocol] = set()  # not made yet; who takes them in leaves them out

    def open(self, listeners: Sequence[socket.socket]) -> None:
        """Take connections from now on."""
        for listener in listeners:
            listener.setblocking(False)
            task = self._loop.create_task(self._accept(listener))
            task.add_done_callback(lambda _, listener=listener: listener.close())  # type: ignore[misc]
            self._listening.append(task)

    def close(self) -> None:
        """Take no more; those that arrive may come in."""
        for task in self._listening:
            task.cancel()

    def cancel_handshakes(self) -> None:
        """Turn those away that still arrive."""
        for task in tuple(self._admissions):
            task.cancel()

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                peer, address = await self._loop.sock_accept(listener)
                self._receive(peer, address)
                await asyncio.sleep(0)  # asyncio's loop takes who waits already without a turn for anybody else
            except ConnectionError:  # it was gone before its turn
                continue
            except OSError as error:  # no descriptors, or no memory
                self._full_log.warn("connections cannot be taken", reason=str(error))
                await asyncio.sleep(PAUSE_SECONDS)
            except Exception:  # a server that listens but never accepts again would be worse
                logger.exception("internal error while a connection came in")
                await asyncio.sleep(PAUSE_SECONDS)

    def _receive(self, peer: socket.socket, address: Any) -> None:
        try:
            usage = self._admit_peer(peer_key(address))
            if usage is None:  # without SETTINGS, or clients would call it a success and come back at once
                peer.close()
                return
            protocol = self._new_protocol(usage)
        except BaseException:
            peer.close()
            raise
        self.arriving.add(protocol)
        task = self._loop.create_task(self._admit(protocol, peer))
        self._admissions.add(task)
        task.add_done_callback(lambda task: self._admitted(task, protocol, peer, usage))

    async def _admit(self, protocol: asyncio.Protocol, peer: socket.socket) -> None:
        tls: dict[str, Any] = {} if self._tls is None else {"ssl": self._tls(), **self._times}
        await self._loop.connect_accepted_socket(lambda: protocol, peer, **tls)

    def _admitted(
        self, task: "asyncio.Task[None]", protocol: asyncio.Protocol, peer: socket.socket, usage: PeerUsage
    ) -> None:
        self._admissions.discard(task)
        came_in = protocol not in self.arriving
        self.arriving.discard(protocol)
        error = None if task.cancelled() else task.exception()
        if task.cancelled() or error is not None:  # cancelled perhaps before it began
            peer.close()
        if not came_in:
            usage.leave()
        if error is not None and self._tls is not None:
            self._refuse(_why(error))
        if error is not None and not isinstance(error, OSError):  # those: no TLS, or not in time
            logger.error("internal error while a connection came in", exc_info=error)


def _why(error: BaseException) -> Refusal:
    """What was wrong with a handshake, as OpenSSL calls it."""
    reason = str(getattr(error, "reason", "") or "")
    return Refusal.CLIENT_CERTIFICATE if "CERTIFICATE" in reason else Refusal.HANDSHAKE
