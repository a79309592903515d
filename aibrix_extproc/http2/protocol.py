"""One TCP connection: bytes from the loop to the calls and back, in turns, with an orderly goodbye."""

import asyncio
import socket
import ssl
from typing import Final, Protocol, cast

from aibrix_extproc.http2.call_table import CallTable
from aibrix_extproc.http2.limits import MemoryUse
from aibrix_extproc.http2.peer_table import PeerUsage
from aibrix_extproc.http2.status import Status

WRITE_HIGH_WATER_BYTES: Final = 4 * 1024 * 1024
# A peer that vanished without a word is noticed by the kernel: half a minute when it owes nothing, and the same when it
# does not acknowledge or take what we sent. A PING of ours would add frames and timers, and tell no more.
_OPTIONS: Final = (
    (socket.IPPROTO_TCP, "TCP_NODELAY", 1),
    (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
    (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 15),
    (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 5),
    (socket.IPPROTO_TCP, "TCP_KEEPCNT", 3),
    (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", 30_000),
)


class _Timeouts(Protocol):
    @property
    def handshake_seconds(self) -> float:
        """For the preface and SETTINGS of a new connection."""

    @property
    def linger_seconds(self) -> float:
        """For a peer to take our last words."""

    @property
    def notice_seconds(self) -> float:
        """Between the two steps of an orderly end."""


class Host(Protocol):
    """The server, as its protocols see it."""

    loop: asyncio.AbstractEventLoop
    memory: MemoryUse
    draining: bool

    @property
    def timeouts(self) -> _Timeouts:
        """How long to wait for peers."""

    def refuse_client(self, tls: ssl.SSLObject) -> str | None:
        """Why the client at the other end is not let in; None if it is."""

    def accept(self, protocol: "ServerProtocol") -> CallTable:
        """The calls of a new connection."""

    def changed(self) -> None:
        """Something was written."""

    def enforce_send_limit(self) -> None:
        """More waits for a peer to take it than before."""

    def closed(self, reason: str) -> None:
        """A connection is closed for a fault of its peer."""

    def forget(self, protocol: "ServerProtocol") -> None:
        """The connection is gone."""


class ServerProtocol(asyncio.Protocol):
    """One TCP connection."""

    def __init__(self, host: Host, usage: PeerUsage) -> None:
        self._host = host
        self.usage = usage
        self.retired = False
        self.used_at = host.loop.time()  # when it last had a stream, as far as was looked
        self._transport: asyncio.Transport | None = None
        self._calls: CallTable | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._seen_blocked = False  # that the peer does not take our answers was looked at
        self._turn_waits = False
        self._flush_waits = False
        self._lingering = False
        self.unsent = 0  # bytes of answers that wait for the peer, as counted in `memory`

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A peer has connected."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by class
        fault = self._strange(self._transport.get_extra_info("ssl_object"))
        if fault is not None:
            self._host.closed(fault)
            self._transport.abort()
            return
        _set_options(self._transport)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_WATER_BYTES)
        self._calls = self._host.accept(self)
        self._timer = self._host.loop.call_later(self._host.timeouts.handshake_seconds, self._on_handshake_timeout)
        if self._host.draining:  # it was accepted just before the listener closed
            self._calls.connection.refuse_new()
        self.flush()

    def _strange(self, tls: ssl.SSLObject | None) -> str | None:
        """Why nothing is said to this peer, not even SETTINGS."""
        if tls is None:
            return None
        return "TLS without the protocol h2" if tls.selected_alpn_protocol() != "h2" else self._host.refuse_client(tls)

    def data_received(self, data: bytes) -> None:
        """Take bytes; a long chunk of small frames in several turns of the loop."""
        if self._calls is None:
            return
        connection = self._calls.connection
        connection.receive(data, self._host.loop.time())
        self.flush()
        if connection.behind:
            self._wait_for_turn()

    def _wait_for_turn(self) -> None:
        if not self._turn_waits:
            self._turn_waits = True
            self._update_reading()
            self._host.loop.call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._turn_waits = False
        if not self._blocked:
            self._update_reading()
            self.data_received(b"")

    def pause_writing(self) -> None:
        """The peer does not take our answers: do not take its questions, not even those that are here."""
        if self._calls is not None:
            self._calls.paused = True
            self._update_reading()

    def resume_writing(self) -> None:
        """It takes them again."""
        self._seen_blocked = False
        if self._calls is not None:
            self._calls.resume()
            self.flush_soon()
            if self._calls.connection.behind:
                self._wait_for_turn()
            self._update_reading()

    @property
    def _blocked(self) -> bool:
        return self._calls is not None and self._calls.paused

    def _update_reading(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if self._blocked or self._turn_waits:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._transport = None
        self._settle()
        if self._timer is not None:
            self._timer.cancel()
        if self._calls is not None:
            self._calls.connection.lost()
            self._calls = None
        self._host.forget(self)

    # ---- writing

    def flush_soon(self) -> None:
        """Write in a moment: calls that are answered in the same turn of the loop share one write."""
        if not self._flush_waits:
            self._flush_waits = True
            self._host.loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what there is to write; hang up after the last word."""
        self._flush_waits = False
        transport, calls = self._transport, self._calls
        if transport is None or calls is None or self._lingering:
            return
        out = calls.connection.take()
        if out:
            transport.write(out)
        if calls.connection.has_more and not calls.paused:
            self.flush_soon()
        if self.count() > 0:
            self._host.enforce_send_limit()
        self._host.changed()
        if calls.connection.closing and not self._lingering:  # or it was given up just now
            self._host.closed(calls.connection.fault or "")
            self._linger(transport, calls)

    def count(self) -> int:
        """Count what waits for the peer by now, by its windows or its socket; how much more it is."""
        if self._transport is None or self._calls is None or self._lingering:
            return 0
        unsent = self._calls.connection.unsent + self._transport.get_write_buffer_size()
        more = unsent - self.unsent
        self.unsent = unsent
        self._host.memory.unsent += more
        return more

    def _settle(self) -> None:
        self._host.memory.unsent -= self.unsent
        self.unsent = 0

    # ---- ends

    def close_slow_reader(self) -> None:
        """Close on a peer that does not take its answers: a last word would only wait behind them."""
        self._host.closed("answers are not taken")
        self._lingering = True
        self._settle()
        self.abort()

    def _linger(self, transport: asyncio.Transport, calls: CallTable) -> None:
        """Say no more, but let the peer read why: closing a socket with unread input would take our last words back."""
        self._lingering = True
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._host.loop.call_later(self._host.timeouts.linger_seconds, self.abort)
        calls.paused = self._turn_waits = False
        self._update_reading()
        if not transport.can_write_eof():
            transport.close()
            return
        try:
            transport.write_eof()
        except OSError:  # the peer was quicker
            transport.abort()

    def check_progress(self) -> None:
        """Called now and then: end what does not get on. Of a peer that we do not read from nothing is expected."""
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
        elif self._seen_blocked:
            self.close_slow_reader()
        else:
            self._seen_blocked = True

    def _on_handshake_timeout(self) -> None:
        if self._calls is not None and not self._calls.connection.handshake_done:
            self._host.closed("no greeting")
            self._calls.connection.refuse_new()
            self.flush()
            if self._transport is not None:
                self._linger(self._transport, self._calls)

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

    def retire(self) -> None:
        """Both steps, for a connection that is not needed; it closes when what it still had to say is answered."""
        self.retired = True
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
        """The time to drain is up."""
        if self._calls is not None:
            self._calls.fail_calls(status, message)
            self.flush()
            if self._transport is not None and not self._lingering:
                self._linger(self._transport, self._calls)

    def abort(self) -> None:
        """Close without waiting."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def running(self) -> int:
        """Streams that are open on this connection."""
        return self._calls.connection.streams if self._calls is not None else 0


def _set_options(transport: asyncio.Transport) -> None:
    sock = transport.get_extra_info("socket")
    for level, name, value in _OPTIONS:
        option = getattr(socket, name, None)  # not every system has each of them
        if option is not None:
            sock.setsockopt(level, option, value)
