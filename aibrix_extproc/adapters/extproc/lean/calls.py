"""gRPC over one HTTP/2 connection: methods by path, messages out of DATA, answers and statuses back into frames."""

import asyncio
import re
import struct
from collections.abc import Callable, Coroutine, Iterable, Mapping
from enum import IntEnum
from typing import Any, Final, Protocol
from urllib.parse import quote

from aibrix_extproc.adapters.extproc.lean.blocks import HeaderList
from aibrix_extproc.adapters.extproc.lean.connection import Connection
from aibrix_extproc.adapters.extproc.lean.frames import ErrorCode
from aibrix_extproc.adapters.extproc.lean.limits import Limits
from aibrix_extproc.core.exchange.events import Cause


class Status(IntEnum):
    """gRPC status codes that this server gives."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


class CallError(Exception):
    """A call ends with a status other than OK."""

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Reply(Protocol):
    """What a handler uses to answer later than at once."""

    def send(self, messages: Iterable[bytes]) -> None:
        """Send messages; nothing happens if the call is over."""

    def start(self, waiting: Coroutine[Any, Any, None]) -> None:
        """Run something that really waits; cancelled when the call ends."""

    def finish(self) -> None:
        """End the call well; nothing happens if it is over."""


class Handler(Protocol):
    """One call of one method."""

    def message(self, payload: bytes) -> Iterable[bytes]:
        """A request message; the answers that are at hand. Raises CallError to end the call."""

    def half_closed(self) -> Iterable[bytes]:
        """The client has said everything; the last answers."""

    def closed(self, cause: Cause) -> None:
        """The call is over; called exactly once."""


Method = Callable[[Reply], Handler]

_PREFIX: Final = struct.Struct(">BL")
_TIMEOUT: Final = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNITS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}


def _literal(name: bytes, value: bytes) -> bytes:
    """A header field without indexing (RFC 7541, 6.2.2), neither part Huffman-coded."""
    return b"\x00" + _sized(name) + _sized(value)


def _sized(text: bytes) -> bytes:
    if len(text) < 127:
        return bytes((len(text),)) + text
    rest, out = len(text) - 127, bytearray(b"\x7f")
    while rest >= 128:
        out.append(rest % 128 + 128)
        rest //= 128
    out.append(rest)
    return bytes(out) + text


HEAD_BLOCK: Final = b"\x88" + _literal(b"content-type", b"application/grpc")  # 0x88 is :status 200
OK_BLOCK: Final = _literal(b"grpc-status", b"0")


def status_block(status: Status, message: str) -> bytes:
    """Trailers with a status; the message percent-encoded as gRPC wants it."""
    if status is Status.OK:
        return OK_BLOCK
    return _literal(b"grpc-status", str(int(status)).encode()) + _literal(
        b"grpc-message", quote(message, safe=" !#$&'()*+,/:;=?@[]~").encode()
    )


def framed(message: bytes) -> bytes:
    """A message with gRPC's five-byte prefix, uncompressed."""
    return _PREFIX.pack(0, len(message)) + message


class Call:
    """One stream: cuts messages out of it and gives the answers back."""

    def __init__(self, calls: "Calls", stream_id: int) -> None:
        self._calls = calls
        self._stream_id = stream_id
        self._pieces: list[bytes] = []
        self._have = 0
        self._need = _PREFIX.size
        self._head_sent = False
        self._task: asyncio.Task[None] | None = None
        self._ended = False
        self._half_closed = False
        self.handler: Handler | None = None
        self.timer: asyncio.TimerHandle | None = None

    # Reply

    def send(self, messages: Iterable[bytes]) -> None:
        """Send messages and let the loop write them."""
        if not self._ended:
            self._write(messages)
            self._calls.flush()

    def start(self, waiting: Coroutine[Any, Any, None]) -> None:
        """Run something that waits on behalf of this call."""
        self._task = self._calls.loop.create_task(waiting)
        self._task.add_done_callback(self._done)

    def finish(self) -> None:
        """End the call from our side."""
        self._finish()
        self._calls.flush()

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._task = None
        if not task.cancelled() and task.exception() is not None:
            self.fail(Status.INTERNAL, "internal error")
            self._calls.flush()
        elif self._half_closed:
            self._finish()
            self._calls.flush()

    # Connection

    def received(self, data: bytes, *, ended: bool) -> None:
        """A piece of the request: any part of a message, or of several."""
        try:
            if data:
                self._take(data)
            if ended and not self._ended:
                self._on_half_close()
        except CallError as error:
            self.fail(error.status, error.message)

    def _take(self, data: bytes) -> None:
        if self._have + len(data) < self._need:
            self._pieces.append(data)
            self._have += len(data)
            self._check_prefix()
            return
        if self._pieces:
            self._pieces.append(data)
            data = b"".join(self._pieces)
        position, end = 0, len(data)
        while end - position >= _PREFIX.size and not self._ended:
            compressed, size = _PREFIX.unpack_from(data, position)
            self._check(compressed, size)
            after = position + _PREFIX.size + size
            if after > end:
                self._need = _PREFIX.size + size
                break
            assert self.handler is not None
            self._write(self.handler.message(data[position + _PREFIX.size : after]))
            position = after
            self._need = _PREFIX.size
        rest = data[position:]
        self._pieces = [rest] if rest else []
        self._have = len(rest)

    def _check_prefix(self) -> None:
        """Refuse a message as soon as its size is known, not when it has arrived."""
        if self._need == _PREFIX.size and self._have >= _PREFIX.size:
            head = b"".join(self._pieces)
            compressed, size = _PREFIX.unpack_from(head)
            self._check(compressed, size)

    def _check(self, compressed: int, size: int) -> None:
        if compressed:
            raise CallError(Status.UNIMPLEMENTED, "compressed messages are not supported")
        if size > self._calls.max_message_bytes:
            limit = self._calls.max_message_bytes
            raise CallError(Status.RESOURCE_EXHAUSTED, f"message of {size} bytes is larger than {limit}")

    def _on_half_close(self) -> None:
        self._half_closed = True
        if self._have:
            raise CallError(Status.INTERNAL, "the last message is cut short")
        assert self.handler is not None
        self._write(self.handler.half_closed())
        if self._task is None:
            self._finish()

    def _finish(self) -> None:
        if not self._ended:
            if not self._head_sent:
                self._calls.connection.send_headers(self._stream_id, HEAD_BLOCK)
            self._calls.connection.send_end(self._stream_id, OK_BLOCK)
            self.over(Cause.HALF_CLOSED)

    def _write(self, messages: Iterable[bytes]) -> None:
        connection = self._calls.connection
        for message in messages:
            if not self._head_sent:
                self._head_sent = True
                connection.send_headers(self._stream_id, HEAD_BLOCK)
            connection.send_data(self._stream_id, framed(message))

    def fail(self, status: Status, message: str) -> None:
        """End the call with a status: trailers alone if nothing was sent (gRPC's Trailers-Only)."""
        if self._ended:
            return
        block = status_block(status, message)
        self._calls.connection.send_end(self._stream_id, block if self._head_sent else HEAD_BLOCK + block)
        self.over(Cause.FAILED)

    def over(self, cause: Cause) -> None:
        """Release everything, once."""
        if self._ended:
            return
        self._ended = True
        self._calls.forget(self._stream_id)
        if self.timer is not None:
            self.timer.cancel()
        if self._task is not None:
            self._task.cancel()
        if self.handler is not None:
            self.handler.closed(cause)


class Calls:
    """All calls of one connection; the connection's listener."""

    def __init__(
        self,
        methods: Mapping[bytes, Method],
        loop: asyncio.AbstractEventLoop,
        flush: Callable[[], None],
        limits: Limits,
        *,
        max_message_bytes: int,
        on_call_over: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_call_over = on_call_over
        self.connection = Connection(self, limits)
        self.loop = loop
        self.flush = flush
        self.max_message_bytes = max_message_bytes
        self._methods = methods
        self._calls: dict[int, Call] = {}

    @property
    def running(self) -> int:
        """Calls that are open."""
        return len(self._calls)

    def opened(self, stream_id: int, headers: HeaderList, *, ended: bool) -> None:
        """A new stream: find its method, or say what is wrong."""
        call = Call(self, stream_id)
        self._calls[stream_id] = call
        named = dict(headers)
        refusal = _refusal(named)
        if refusal is not None:
            self.connection.send_end(stream_id, refusal)
            call.over(Cause.FAILED)
            return
        method = self._methods.get(named[b":path"])
        if method is None:
            call.fail(Status.UNIMPLEMENTED, "unknown method")
            return
        call.handler = method(call)
        timeout = named.get(b"grpc-timeout")
        if timeout is not None and (parsed := _TIMEOUT.fullmatch(timeout)):
            seconds = int(parsed[1]) * _UNITS[parsed[2]]
            call.timer = self.loop.call_later(seconds, self._expired, call)
        if ended:
            call.received(b"", ended=True)

    def received(self, stream_id: int, data: bytes, *, ended: bool) -> None:
        """Data of a stream."""
        call = self._calls.get(stream_id)
        if call is not None:
            call.received(data, ended=ended)

    def ended(self, stream_id: int, code: int) -> None:
        """The stream was reset, by the peer or for a fault of it."""
        call = self._calls.get(stream_id)
        if call is not None:
            call.over(Cause.CANCELLED if code in (ErrorCode.CANCEL, ErrorCode.NO_ERROR) else Cause.FAILED)

    def forget(self, stream_id: int) -> None:
        """A call is over."""
        self._calls.pop(stream_id, None)
        self._on_call_over()

    def cut(self, status: Status, message: str) -> None:
        """End every call, as when the time to drain is up."""
        for call in tuple(self._calls.values()):
            call.fail(status, message)

    def _expired(self, call: Call) -> None:
        call.fail(Status.DEADLINE_EXCEEDED, "deadline exceeded")
        self.flush()


def _refusal(headers: Mapping[bytes, bytes]) -> bytes | None:
    """A plain HTTP answer to what is not gRPC."""
    if headers[b":method"] != b"POST":
        return _literal(b":status", b"405") + _literal(b"allow", b"POST")
    if not headers.get(b"content-type", b"").startswith(b"application/grpc"):
        return _literal(b":status", b"415")
    return None
