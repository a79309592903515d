"""Servers and handlers that the tests of the HTTP/2 server share."""

import asyncio
import contextlib
import functools
import inspect
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
import uvloop

from aibrix_extproc.http2.call_table import CallTable
from aibrix_extproc.http2.connection import Connection
from aibrix_extproc.http2.frames import Piece
from aibrix_extproc.http2.handler import CallOutcome, Method, Responder
from aibrix_extproc.http2.limits import ConnectionLimits
from aibrix_extproc.http2.listener_limits import ListenerLimits, Refusal
from aibrix_extproc.http2.server import GrpcServer
from aibrix_extproc.http2.status import CallError, Status
from aibrix_extproc.http2.timeouts import Timeouts
from aibrix_extproc.tls.credentials import ServerCredentials
from tests.http2 import wire

MAX_MESSAGE_BYTES: Final = 1_000_000
QUICK: Final = Timeouts(handshake_seconds=30.0, linger_seconds=1.0, notice_seconds=0.02)
IMPATIENT: Final = Timeouts(handshake_seconds=0.2, linger_seconds=0.2, notice_seconds=0.02)  # for tests of its ends
DEADLINE_SECONDS: Final = 60.0


class HandlerBug(Exception):
    """A mistake of a handler."""


@dataclass
class Log:
    """What handlers were told."""

    messages: list[bytes] = field(default_factory=list)
    outcomes: list[CallOutcome] = field(default_factory=list)
    opened: int = 0
    refusals: list[Refusal] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)


class Echo:
    """Sends each message back; some messages are orders."""

    def __init__(self, log: Log, responder: Responder) -> None:
        self._log = log
        self._responder = responder
        log.opened += 1

    def message(self, payload: bytes) -> Iterable[bytes]:
        self._log.messages.append(payload)
        match payload:
            case b"break":
                raise HandlerBug
            case b"refuse":
                raise CallError(Status.NOT_FOUND, "no such thing: 100 %\n\u00e4")
            case b"wait":
                self._responder.start(self._wait())
                return ()
            case b"break later":
                self._responder.start(self._break())
                return ()
            case b"silence":
                return ()
            case b"finish":
                self._responder.finish()
                return ()
        return (payload,)

    def large_message(self, pieces: tuple[Piece, ...]) -> Iterable[bytes]:
        return self.message(b"".join(pieces))

    async def _wait(self) -> None:
        await self._log.gate.wait()
        self._responder.send((b"waited",))

    async def _break(self) -> None:
        await self._log.gate.wait()
        raise HandlerBug

    def half_closed(self) -> Iterable[bytes]:
        return ()

    def closed(self, outcome: CallOutcome) -> None:
        self._log.outcomes.append(outcome)


def echo_methods(log: Log) -> Mapping[bytes, Method]:
    return {wire.ECHO.encode(): lambda responder: Echo(log, responder)}


class Talk:
    """One connection without a socket: what a peer writes goes in, what the server answers comes out."""

    def __init__(
        self,
        limits: ConnectionLimits | None = None,
        *,
        handshake: bool = True,
        methods: Callable[[Log], Mapping[bytes, Method]] = echo_methods,
    ) -> None:
        self.log = Log()
        self.now = 0.0
        self.reader = wire.Reader()
        self.calls = CallTable(
            methods(self.log),
            asyncio.get_running_loop(),
            self.read,
            limits or ConnectionLimits(),
            max_message_bytes=MAX_MESSAGE_BYTES,
        )
        if handshake:
            self.say(wire.CLIENT_PREFACE)

    @property
    def connection(self) -> Connection:
        return self.calls.connection

    def say(self, *pieces: bytes) -> "Talk":
        """The peer writes; read to the end as the protocol would, turn by turn."""
        self.connection.receive(b"".join(pieces), self.now)
        self.read()
        while self.connection.has_unread:
            self.connection.receive(b"", self.now)
            self.read()
        return self

    def read(self) -> None:
        self.reader.feed(self.connection.take())

    def answer(self, stream_id: int = 1) -> wire.Answer:
        return self.reader.answer(stream_id)

    @property
    def goaway(self) -> int | None:
        return self.reader.goaway()


def on_both_loops(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test on asyncio's loop and on uvloop's, which the product uses: their transports differ in the corners."""

    @pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
    @functools.wraps(test)
    def run(new_loop: Callable[[], asyncio.AbstractEventLoop], **fixtures: Any) -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(test(**fixtures))

    asked = inspect.signature(test).parameters.values()
    loop = inspect.Parameter("new_loop", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    vars(run)["__signature__"] = inspect.Signature([loop, *asked])
    shown: Callable[..., None] = run
    return shown


@dataclass
class Served:
    """A running server."""

    server: GrpcServer
    port: int
    log: Log


@contextlib.asynccontextmanager
async def serving(
    limits: ConnectionLimits | None = None,
    *,
    tls: ServerCredentials | None = None,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    listener_limits: ListenerLimits | None = None,
    timeouts: Timeouts = QUICK,
) -> AsyncIterator[Served]:
    """An echo server on a port of its own."""
    log = Log()
    server = GrpcServer(
        echo_methods(log),
        max_message_bytes=max_message_bytes,
        listener_limits=listener_limits,
        limits=limits,
        timeouts=timeouts,
        on_refusal=log.refusals.append,
    )
    port = await server.start("127.0.0.1", 0, tls)
    try:
        yield Served(server, port, log)
    finally:
        await server.drain(0.0)


class Peer:
    """A client on a real socket that writes whatever it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self.heard = wire.Reader()
        self.raw = b""
        self.eof = False

    def say(self, *pieces: bytes) -> None:
        self.writer.write(b"".join(pieces))

    async def hear(self, condition: Callable[[], object]) -> None:
        """Read until something is true or the server has hung up."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not self.eof and not condition():
                try:
                    some = await self._reader.read(65536)
                except ConnectionError:
                    some = b""
                self.eof = not some
                self.raw += some
                self.heard.feed(some)

    async def hear_all(self) -> None:
        await self.hear(lambda: False)


@contextlib.asynccontextmanager
async def connected(
    port: int, tls: ssl.SSLContext | None = None, *, handshake: bool = True, host: str = "127.0.0.1"
) -> AsyncIterator[Peer]:
    """A client of its own connection, which comes from the address `host`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, local_addr=(host, 0))
    peer = Peer(reader, writer)
    if handshake:
        peer.say(wire.CLIENT_PREFACE)
    try:
        yield peer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError, asyncio.TimeoutError):
            await _soon(writer.wait_closed())


async def _soon(waiting: Awaitable[None]) -> None:
    async with asyncio.timeout(1.0):
        await waiting
