"""One connection to Redis: requests of this turn in one write, answers in their order (RESP2).

A client library costs more for one call than a limit may cost altogether, and needs a connection for each call that
waits. We need a few commands, and answers of a few bytes. An answer that is not of the protocol, or too long, ends
the connection.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from typing import Final, cast

from aibrix_extproc.adapters.counters.target import RedisTarget

MAX_REPLY_BYTES: Final = 65_536
MAX_WAITING: Final = 20_000  # requests without an answer


class RedisError(Exception):
    """Redis answered with an error, or cannot be asked."""


Reply = bytes | int | RedisError | None
OnReply = Callable[[Reply], None]


class RedisConnection(asyncio.Protocol):
    """A protocol of asyncio; `on_lost` is called once, when nothing more will be answered."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_lost: Callable[[], None]) -> None:
        self._loop = loop
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[OnReply] = deque()
        self._unsent: list[bytes] = []
        self._unread = b""
        self.why_lost = "the connection was closed"

    @property
    def is_open(self) -> bool:
        """Whether anything may still be answered."""
        return self._transport is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of asyncio.Protocol."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are not derived from it

    def send(self, command: bytes, on_reply: OnReply) -> None:
        """Send an encoded command with the others of this turn. `on_reply` is called exactly once."""
        if self._transport is None or len(self._waiting) >= MAX_WAITING:
            on_reply(RedisError(self.why_lost if self._transport is None else "too many requests wait for Redis"))
            return
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(command)
        self._waiting.append(on_reply)

    def _flush(self) -> None:
        if self._transport is not None and self._unsent:
            self._transport.write(b"".join(self._unsent))
        self._unsent.clear()

    def data_received(self, data: bytes) -> None:
        """Part of asyncio.Protocol."""
        data = self._unread + data if self._unread else data
        at = 0
        try:
            while at < len(data):
                found = _parsed(data, at)
                if found is None:
                    break
                at, reply = found
                if not self._waiting:
                    raise ValueError("an answer that nobody asked for")
                self._waiting.popleft()(reply)
        except ValueError as error:
            self.abort(f"not the protocol of Redis: {error}")
            return
        self._unread = data[at:]

    def connection_lost(self, exc: Exception | None) -> None:
        """Part of asyncio.Protocol."""
        self._lose(str(exc) if exc is not None else self.why_lost)

    def abort(self, why: str) -> None:
        """End the connection; everything that waits gets an error."""
        if self._transport is not None:
            self._transport.abort()
        self._lose(why)

    def _lose(self, why: str) -> None:
        if self._transport is None:
            return
        self._transport, self.why_lost = None, why
        waiting, self._waiting = self._waiting, deque()
        self._unsent.clear()
        self._unread = b""
        for on_reply in waiting:
            on_reply(RedisError(why))
        self._on_lost()


def _parsed(data: bytes, at: int) -> tuple[int, Reply] | None:
    """The end of a reply and its value; None if more is needed. Raises ValueError for what is none."""
    end = data.find(b"\r\n", at)
    if end < 0:
        if len(data) - at > MAX_REPLY_BYTES:
            raise ValueError("a line without an end")
        return None
    kind, line = data[at : at + 1], data[at + 1 : end]
    if kind == b"$":
        size = int(line)
        if size == -1:
            return end + 2, None
        if not 0 <= size <= MAX_REPLY_BYTES:
            raise ValueError("an answer that is too long")
        last = end + 2 + size
        return (last + 2, data[end + 2 : last]) if len(data) >= last + 2 else None
    if kind == b":":
        return end + 2, int(line)
    if kind == b"+":
        return end + 2, line
    if kind == b"-":
        return end + 2, RedisError(line[:200].decode("utf-8", "replace"))
    raise ValueError(f"an answer of type {kind!r}")


def encoded(*words: bytes) -> bytes:
    """A command as RESP."""
    return b"*%d\r\n%b" % (len(words), bulk(*words))


def bulk(*words: bytes) -> bytes:
    """A part of a command as RESP."""
    return b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])


async def connect(
    host: str, port: int, tls: ssl.SSLContext | None, on_lost: Callable[[], None], *, unix_path: str | None = None
) -> RedisConnection:
    """A connection that is open. Raises OSError."""
    loop = asyncio.get_running_loop()

    def make() -> RedisConnection:
        return RedisConnection(loop, on_lost)

    if unix_path is not None:
        _, connection = await loop.create_unix_connection(make, unix_path)
    else:
        _, connection = await loop.create_connection(make, host, port, ssl=tls)
    return connection


async def log_in(connection: RedisConnection, target: RedisTarget) -> None:
    """Give the password, and choose the database. Raises RedisError."""
    if target.password:
        user = (target.user.encode(),) if target.user else ()
        await ask(connection, b"AUTH", *user, target.password.encode())
    if target.database:
        await ask(connection, b"SELECT", b"%d" % target.database)


async def ask(connection: RedisConnection, *words: bytes) -> bytes | int | None:
    """Wait for the answer to one command. Raises RedisError."""
    future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

    def take(reply: Reply) -> None:
        if not future.done():
            future.set_result(reply)

    connection.send(encoded(*words), take)
    reply = await future
    if isinstance(reply, RedisError):
        raise reply
    return reply
