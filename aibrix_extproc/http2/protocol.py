"""The asyncio protocol of one TCP connection: passes bytes to the calls and back, in turns, and closes gracefully."""

import asyncio
import ssl
from typing import Final, Protocol, cast

from aibrix_extproc.http2.call_table import CallTable
from aibrix_extproc.http2.memory_use import MemoryUse
from aibrix_extproc.http2.peer_table import PeerUsage
from aibrix_extproc.http2.sockets import set_tcp_options
from aibrix_extproc.http2.status import Status
from aibrix_extproc.http2.timeouts import Timeouts

WRITE_HIGH_WATER_BYTES: Final = 4 * 1024 * 1024


class ProtocolHost(Protocol):
    """The server, as its protocols use it."""

    loop: asyncio.AbstractEventLoop
    memory: MemoryUse
    timeouts: Timeouts
    draining: bool

    def refuse_client(self, connection: ssl.SSLObject) -> str | None:
        """Why the client of a TLS connection is refused; None if it is accepted."""

    def register(self, protocol: "ServerProtocol") -> CallTable:
        """Add a connection and make its calls."""

    def unregister(self, protocol: "ServerProtocol") -> None:
        """Remove a connection that is closed."""

    def cancel_handshake(self, protocol: "ServerProtocol") -> None:
        """Close a connection that is still in its TLS handshake."""

    def notify_change(self) -> None:
        """Something was sent, or a call is over."""

    def enforce_send_limit(self) -> None:
        """More bytes are unsent than before."""

    def log_closed(self, reason: str) -> None:
        """Log that the server closes a connection for something that its peer did."""


class ServerProtocol(asyncio.Protocol):
    """One TCP connection."""

    def __init__(self, host: ProtocolHost, usage: PeerUsage) -> None:
        self._host = host
        self.usage = usage
        self.retired = self.closed = False
        self.used_at = host.loop.time()  # when it last had a stream, as of the last check
        self.unsent = 0  # bytes of answers that wait for the peer, as counted in `memory`
        self._transport: asyncio.Transport | None = None
        self._calls: CallTable | None = None
        self._timer: asyncio.TimerHandle | None = None  # of the handshake, later of the linger
        self._was_blocked = False  # at the last check the peer did not read our answers
        self._turn_scheduled = False
        self._flush_scheduled = False
        self._lingering = False  # everything is said; the socket stays open for the peer to read it

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start HTTP/2, or abort if the client is refused."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by class
        if self.closed:  # evicted as its handshake ended
            self._transport.abort()
            return
        refusal = self._refuse(self._transport.get_extra_info("ssl_object"))
        if refusal is not None:
            self._host.log_closed(refusal)
            self._transport.abort()
            return
        set_tcp_options(self._transport.get_extra_info("socket"))
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_WATER_BYTES)
        self._calls = self._host.register(self)
        self._timer = self._host.loop.call_later(self._host.timeouts.handshake_seconds, self._on_handshake_timeout)
        if self._host.draining:  # the connection was accepted just before the listener closed
            self._calls.connection.refuse_new()
        self.flush()

    def _refuse(self, tls: ssl.SSLObject | None) -> str | None:
        """Why this peer gets no answer, not even SETTINGS; None if it is accepted."""
        if tls is None:
            return None
        return "TLS without the protocol h2" if tls.selected_alpn_protocol() != "h2" else self._host.refuse_client(tls)

    def data_received(self, data: bytes) -> None:
        """Take bytes. A long chunk of small frames takes several turns of the loop."""
        if self._calls is None:
            return
        connection = self._calls.connection
        connection.receive(data, self._host.loop.time())
        self.flush()
        if connection.has_unread:
            self._schedule_turn()

    def _schedule_turn(self) -> None:
        if not self._turn_scheduled:
            self._turn_scheduled = True
            self._update_reading()
            self._host.loop.call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._turn_scheduled = False
        if not self._blocked:
            self._update_reading()
            self.data_received(b"")

    def pause_writing(self) -> None:
        """The peer does not read our answers: process no more of its requests, not even those that are here."""
        if self._calls is not None:
            self._calls.paused = True
            self._update_reading()

    def resume_writing(self) -> None:
        """The peer reads again."""
        self._was_blocked = False
        if self._calls is not None:
            self._calls.resume()
            self.flush_soon()
            if self._calls.connection.has_unread:
                self._schedule_turn()
            self._update_reading()

    @property
    def _blocked(self) -> bool:
        return self._calls is not None and self._calls.paused

    def _update_reading(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if self._blocked or self._turn_scheduled:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """End all calls."""
        self._transport = None
        self.closed = True
        self._release_unsent()
        if self._timer is not None:
            self._timer.cancel()
        if self._calls is not None:
            self._calls.connection.lost()
            self._calls = None
        self._host.unregister(self)

    # ---- writing

    def flush_soon(self) -> None:
        """Write at the end of this turn of the loop: calls that are answered in one turn share one write."""
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._host.loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what the connection has to send, and close after its last frame."""
        self._flush_scheduled = False
        transport, calls = self._transport, self._calls
        if transport is None or calls is None or self._lingering:
            return
        out = calls.connection.take()
        if out:
            transport.write(out)
        if calls.connection.has_more and not calls.paused:
            self.flush_soon()
        if self.update_unsent() > 0:
            self._host.enforce_send_limit()
        self._host.notify_change()
        if calls.connection.closing and not self._lingering:  # `enforce_send_limit` may have closed it just now
            self._host.log_closed(calls.connection.close_reason or "")
            self._linger(transport, calls)

    def update_unsent(self) -> int:
        """Count what waits for the peer, by its windows or in its socket. Returns the difference to the last count."""
        if self._transport is None or self._calls is None or self._lingering:
            return 0
        unsent = self._calls.connection.unsent + self._transport.get_write_buffer_size()
        more = unsent - self.unsent
        self.unsent = unsent
        self._host.memory.unsent += more
        return more

    def _release_unsent(self) -> None:
        self._host.memory.unsent -= self.unsent
        self.unsent = 0

    # ---- checks and ends

    def check_progress(self) -> None:
        """Close the connection, or end calls of it, if they made no progress since the last check.

        Nothing is expected of a peer that the server itself does not read from.
        """
        if self._calls is None or self._lingering:
            return
        if self.running or self._calls.used:
            self.used_at, self._calls.used = self._host.loop.time(), False
        if self.retired:
            self._close_if_idle()
            return
        if not self._blocked:
            self._calls.check_progress()
            self.flush()
        elif self._was_blocked:
            self.close_slow_reader()
        else:
            self._was_blocked = True

    def close_slow_reader(self) -> None:
        """Close the connection of a peer that does not read its answers. A GOAWAY would only wait behind them."""
        self._host.log_closed("answers are not taken")
        self._lingering = True
        self._release_unsent()
        self.abort()

    def _linger(self, transport: asyncio.Transport, calls: CallTable) -> None:
        """Send no more and close when the peer does: closing with unread input would discard our last frames."""
        self._lingering = True
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._host.loop.call_later(self._host.timeouts.linger_seconds, self.abort)
        calls.paused = self._turn_scheduled = False
        self._update_reading()
        if not transport.can_write_eof():
            transport.close()
            return
        try:
            transport.write_eof()
        except OSError:  # the peer closed first
            transport.abort()

    def _on_handshake_timeout(self) -> None:
        if self._calls is not None and not self._calls.connection.handshake_done:
            self._host.log_closed("no SETTINGS in time")
            self._calls.connection.refuse_new()
            self.flush()
            if self._transport is not None:
                self._linger(self._transport, self._calls)

    def announce_end(self) -> None:
        """First step of a graceful end."""
        if self._calls is not None:
            self._calls.connection.announce_end()
            self.flush()

    def refuse_new(self) -> None:
        """Second step: refuse later streams."""
        if self._calls is not None:
            self._calls.connection.refuse_new()
            self.flush()

    def retire(self) -> None:
        """Take both steps for an idle connection, and close it once its last streams are answered.

        A connection that is still in its TLS handshake closes at once.
        """
        self.retired = True
        if self._transport is None and not self.closed:
            self.closed = True
            self._host.cancel_handshake(self)
            return
        self.announce_end()
        self._host.loop.call_later(self._host.timeouts.notice_seconds, self._finish_retiring)

    def _finish_retiring(self) -> None:
        self.refuse_new()
        self._close_if_idle()

    def _close_if_idle(self) -> None:
        calls, transport = self._calls, self._transport
        if calls is None or transport is None or self._lingering or self.running:
            return
        calls.connection.lost()
        self._linger(transport, calls)

    def fail_calls(self, status: Status, message: str) -> None:
        """End every call with this status, and close."""
        if self._calls is not None:
            self._calls.fail_calls(status, message)
            self.flush()
            if self._transport is not None and not self._lingering:
                self._linger(self._transport, self._calls)

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def running(self) -> int:
        """How many streams are open."""
        return self._calls.connection.streams if self._calls is not None else 0
