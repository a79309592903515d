"""Accepts connections one by one, after admission has counted them, and runs their TLS handshakes.

asyncio's own servers report a connection after its TLS handshake. Until then it takes a quarter of a megabyte, for as
long as the peer delays, and nothing limits how many there are.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar

from aibrix_extproc.http2.listener_limits import Refusal
from aibrix_extproc.http2.peer_table import PeerUsage, peer_key
from aibrix_extproc.http2.rate_limited_log import RateLimitedLog
from aibrix_extproc.http2.timeouts import Timeouts

logger = logging.getLogger(__name__)

P = TypeVar("P", bound=asyncio.Protocol)
PAUSE_SECONDS: Final = 1.0  # when the system has no room for one more connection


class Acceptor(Generic[P]):
    """Makes a protocol for each connection whose peer `admit` gives a usage for.

    `tls` returns the context of the next handshake; None serves plaintext.
    """

    def __init__(
        self,
        new_protocol: Callable[[PeerUsage], P],
        admit: Callable[[str], PeerUsage | None],
        refuse: Callable[[Refusal], None],
        timeouts: Timeouts,
        tls: Callable[[], ssl.SSLContext] | None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._new_protocol = new_protocol
        self._admit = admit
        self._refuse = refuse
        self._tls = tls
        self._tls_timeouts = {
            "ssl_handshake_timeout": timeouts.handshake_seconds,
            "ssl_shutdown_timeout": timeouts.linger_seconds,
        }
        self._full_log = RateLimitedLog(logger, self._loop.time, 1)
        self._listening: list[asyncio.Task[None]] = []
        self._handshakes: set[asyncio.Task[None]] = set()
        # Their handshakes, until `connection_made`; the server removes them there.
        self.arriving: dict[P, asyncio.Task[None]] = {}

    def open(self, listeners: Sequence[socket.socket]) -> None:
        """Accept connections from now on."""
        for listener in listeners:
            listener.setblocking(False)
            task = self._loop.create_task(self._accept(listener))
            task.add_done_callback(lambda _, listener=listener: listener.close())  # type: ignore[misc]
            self._listening.append(task)

    def close(self) -> None:
        """Accept no more. Handshakes that have begun go on."""
        for task in self._listening:
            task.cancel()

    def cancel_handshakes(self) -> None:
        """Close the connections whose handshake is not done."""
        for task in tuple(self._handshakes):
            task.cancel()

    def cancel_handshake(self, protocol: P) -> None:
        """Close a connection whose handshake is not done."""
        if protocol in self.arriving:
            self.arriving[protocol].cancel()

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, address = await self._loop.sock_accept(listener)
                self._receive(connection, address)
                await asyncio.sleep(0)  # asyncio's loop accepts all that wait before anything else has a turn
            except ConnectionError:  # the peer left before it was accepted
                continue
            except OSError as error:  # no descriptors, or no memory
                self._full_log.warn("connections cannot be taken", reason=str(error))
                await asyncio.sleep(PAUSE_SECONDS)
            except Exception:  # a server that listens but never accepts again would be worse
                logger.exception("internal error while a connection came in")
                await asyncio.sleep(PAUSE_SECONDS)

    def _receive(self, connection: socket.socket, address: Any) -> None:
        try:
            usage = self._admit(peer_key(address))
            if usage is None:  # closed before SETTINGS, or clients would call it a success and connect again at once
                connection.close()
                return
            protocol = self._new_protocol(usage)
        except BaseException:
            connection.close()
            raise
        task = self.arriving[protocol] = self._loop.create_task(self._shake_hands(protocol, connection))
        self._handshakes.add(task)
        task.add_done_callback(lambda task: self._on_handshake_end(task, protocol, connection, usage))

    async def _shake_hands(self, protocol: P, connection: socket.socket) -> None:
        tls: dict[str, Any] = {} if self._tls is None else {"ssl": self._tls(), **self._tls_timeouts}
        await self._loop.connect_accepted_socket(lambda: protocol, connection, **tls)

    def _on_handshake_end(
        self, task: "asyncio.Task[None]", protocol: P, connection: socket.socket, usage: PeerUsage
    ) -> None:
        self._handshakes.discard(task)
        made = protocol not in self.arriving
        self.arriving.pop(protocol, None)
        error = None if task.cancelled() else task.exception()
        if task.cancelled() or error is not None:  # a task that is cancelled before it begins closes nothing
            connection.close()
        if not made:
            usage.close_connection()
        if error is not None and self._tls is not None:
            self._refuse(_refusal_for(error))
        if error is not None and not isinstance(error, OSError):  # an OSError: no TLS, or not in time
            logger.error("internal error while a connection came in", exc_info=error)


def _refusal_for(error: BaseException) -> Refusal:
    """What was wrong with a handshake, by OpenSSL's reason."""
    reason = str(getattr(error, "reason", "") or "")
    return Refusal.CLIENT_CERTIFICATE if "CERTIFICATE" in reason else Refusal.HANDSHAKE
