"""gRPC over one HTTP/2 connection: methods by path, messages out of DATA, answers and statuses back into frames."""

import asyncio
import logging
import re
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Final

from aibrix_extproc.adapters.extproc.lean.blocks import Head
from aibrix_extproc.adapters.extproc.lean.connection import Connection
from aibrix_extproc.adapters.extproc.lean.cutter import PREFIX, Cutter, check_prefix, framed
from aibrix_extproc.adapters.extproc.lean.frames import ErrorCode
from aibrix_extproc.adapters.extproc.lean.handler import Handler, Method
from aibrix_extproc.adapters.extproc.lean.limits import Account, Limits
from aibrix_extproc.adapters.extproc.lean.status import (
    HEAD_BLOCK,
    NOT_GRPC_BLOCK,
    NOT_POST_BLOCK,
    OK_BLOCK,
    CallError,
    Status,
    status_block,
)
from aibrix_extproc.adapters.extproc.lean.streams import Stream
from aibrix_extproc.core.exchange.events import Cause

logger = logging.getLogger(__name__)

MESSAGES_PER_TURN: Final = 64  # of those that share a frame; tiny ones fit into one by the hundred thousand
_PREFIX_BYTES: Final = PREFIX.size
_unpack_prefix = PREFIX.unpack_from
_TIMEOUT: Final = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNITS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
# How peers end a call that is not needed any more. Envoy names INTERNAL_ERROR for every stream that it resets itself,
# which is how half of all normal exchanges end; up to 1.35 it named NO_ERROR.
_ORDERLY: Final = frozenset({ErrorCode.CANCEL, ErrorCode.NO_ERROR, ErrorCode.INTERNAL_ERROR})
_CONTENT_TYPE: Final = re.compile(rb"application/grpc(\+proto)?([ ;].*)?")


class Call:
    """One stream: cuts messages out of it and gives the answers back."""

    __slots__ = (
        "_backlog",
        "_calls",
        "_cutter",
        "_half_closed",
        "_handler",
        "_head_sent",
        "_held",
        "_over",
        "_stream",
        "_task",
        "_timer",
    )

    def __init__(self, calls: "Calls", stream: Stream) -> None:
        self._calls = calls
        self._stream = stream
        self._cutter: Cutter | None = None  # once a message was not alone in its frame
        self._held = 0  # bytes, as the account has it
        self._head_sent = False
        self._half_closed = False
        self._over = False
        self._backlog: bytearray | None = None  # what came while the handler waited
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._handler: Handler | None = None

    def begin(self, method: Method, timeout: bytes | None) -> None:
        """Start the method's handler, and the deadline if the client gave one."""
        try:
            self._handler = method(self)
        except Exception:
            logger.exception("internal error at the beginning of a call")
            self.fail(Status.INTERNAL, "internal error")
            return
        if timeout is None:
            return
        parsed = _TIMEOUT.fullmatch(timeout)
        if parsed is None:
            self.fail(Status.INTERNAL, "malformed grpc-timeout")
            return
        self._timer = self._calls.loop.call_later(int(parsed[1]) * _UNITS[parsed[2]], self._expired)

    # ---- Reply

    def send(self, messages: Iterable[bytes]) -> None:
        """Send messages and let the loop write them."""
        if not self._over:
            self._write(messages)
            self._calls.flush()

    def start(self, waiting: Coroutine[Any, Any, None]) -> None:
        """Run something that waits on behalf of this call."""
        if self._over:
            waiting.close()
            return
        self._task = self._calls.loop.create_task(waiting)
        self._task.add_done_callback(self._done)

    def finish(self) -> None:
        """End the call well, from our side."""
        if not self._over:
            self._finish()
            self._calls.flush()

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._task = None
        error = None if task.cancelled() else task.exception()
        if self._over:
            return
        if isinstance(error, CallError):
            self.fail(error.status, error.message)
        elif error is not None:
            logger.error("internal error in a call that waited", exc_info=error)
            self.fail(Status.INTERNAL, "internal error")
        if self._backlog is None:
            self.go_on()
        else:
            self._calls.queue(self)

    def go_on(self) -> bool:
        """Take what came while the handler waited, or what was too much for one turn; False if the call is over."""
        if self._over:
            self._calls.flush()
            return False
        backlog, self._backlog = self._backlog, None
        if backlog:
            self._guarded(self._cut, backlog, 0, len(backlog))
        if not self._over and self._backlog is None:
            self._account()
            if self._stream.paused:
                self._calls.connection.resume(self._stream)
            self._settle()
        self._calls.flush()
        return True

    # ---- Receiver

    def received(self, data: bytes, start: int, end: int, *, ended: bool) -> None:
        """A piece of the request: any part of a message, or of several."""
        if start < end:
            if self._task is not None or self._backlog is not None:
                self._guarded(self._keep, data, start, end)
            else:
                self._guarded(self._take, data, start, end)
        if ended:
            self._half_closed = True
            self._settle()

    def _guarded(self, step: "Callable[[bytes | bytearray, int, int], None]", data: Any, start: int, end: int) -> None:
        """Run one step; whatever goes wrong in it ends this call and nothing else."""
        try:
            step(data, start, end)
        except CallError as error:
            self.fail(error.status, error.message)
        except Exception:
            logger.exception("internal error in a call")
            self.fail(Status.INTERNAL, "internal error")

    def _take(self, data: bytes | bytearray, start: int, end: int) -> None:
        cutter = self._cutter
        if cutter is None:
            if end - start >= _PREFIX_BYTES:
                compressed, size = _unpack_prefix(data, start)
                start_of_message = start + _PREFIX_BYTES
                if size == end - start_of_message:  # a message and nothing else: what nearly every frame is
                    check_prefix(compressed, size, self._calls.max_message_bytes)
                    self._deliver(bytes(data[start_of_message:end]))
                    return
        elif end - start < cutter.missing:  # the middle of a large one
            cutter.add(data[start:end])
            self._held += end - start
            self._calls.account.held += end - start
            self._check_held()
            return
        self._cut(data, start, end)

    def _cut(self, data: bytes | bytearray, start: int, end: int) -> None:
        if self._cutter is None:
            self._cutter = Cutter(self._calls.max_message_bytes)
        for _ in range(MESSAGES_PER_TURN):
            message, start = self._cutter.next(data, start, end)
            if message is None:
                break
            self._calls.count()
            self._deliver(message)
            if self._over:
                return
            if self._task is not None:
                break
        if start < end:
            self._keep(data, start, end)
            if self._task is None:
                self._calls.queue(self)
        elif not self._cutter.unfinished:
            self._cutter = None
        self._account()
        self._check_held()

    def _keep(self, data: bytes | bytearray, start: int, end: int) -> None:
        """Leave it for later, and let the peer fill its window but no more."""
        if isinstance(data, bytearray):  # the backlog itself, whose beginning was taken
            del data[:start]
            self._backlog = data
        else:
            self._backlog = self._backlog or bytearray()
            with memoryview(data) as view, view[start:end] as rest:
                self._backlog += rest
        self._stream.paused = True
        self._account()
        self._check_held()

    def _account(self) -> None:
        held = self._cutter.held if self._cutter is not None else 0
        if self._backlog is not None:
            held += len(self._backlog)
        self._calls.account.held += held - self._held
        self._held = held

    def _check_held(self) -> None:
        """Hold the server to its bound on what is neither complete nor handled."""
        if self._calls.account.held > self._calls.limits.held_bytes:
            raise CallError(Status.RESOURCE_EXHAUSTED, "too much is waiting")

    def _deliver(self, message: bytes) -> None:
        assert self._handler is not None
        replies = self._handler.message(message)
        if replies:
            self._write(replies)

    def _settle(self) -> None:
        """Answer the end of the request, once everything before it is answered."""
        if not self._half_closed or self._over or self._task is not None or self._backlog is not None:
            return
        if self._cutter is not None:
            self.fail(Status.INTERNAL, "the last message is cut short")
        else:
            self._guarded(self._on_half_close, b"", 0, 0)

    def _on_half_close(self, *_: object) -> None:
        assert self._handler is not None
        self._write(self._handler.half_closed())
        if self._task is None and not self._over:
            self._finish()

    def look(self) -> None:
        """Called now and then: a message that was unfinished at the last look, and still is, ends the call."""
        if self._cutter is not None and self._cutter.look() and self._task is None and self._backlog is None:
            self.fail(Status.DEADLINE_EXCEEDED, "a message does not come to its end")

    def broken_off(self, code: int) -> None:
        """The stream was reset, by the peer or for a fault of it, or the connection is gone."""
        self._end(Cause.CANCELLED if code in _ORDERLY else Cause.FAILED)

    # ---- answers and ends

    def _write(self, messages: Iterable[bytes]) -> None:
        connection, stream = self._calls.connection, self._stream
        for message in messages:
            if not self._head_sent:
                self._head_sent = True
                connection.send_headers(stream, HEAD_BLOCK)
            connection.send_data(stream, framed(message))

    def _finish(self) -> None:
        connection = self._calls.connection
        if not self._head_sent:
            connection.send_headers(self._stream, HEAD_BLOCK)
        connection.send_end(self._stream, OK_BLOCK)
        self._end(Cause.HALF_CLOSED)

    def _expired(self) -> None:
        self.fail(Status.DEADLINE_EXCEEDED, "deadline exceeded")
        self._calls.flush()

    def fail(self, status: Status, message: str) -> None:
        """End the call with a status: trailers alone if nothing was sent (gRPC's Trailers-Only)."""
        if self._over:
            return
        block = status_block(status, message)
        self._calls.connection.send_end(self._stream, block if self._head_sent else HEAD_BLOCK + block)
        self._end(Cause.FAILED)

    def _end(self, cause: Cause) -> None:
        """Release everything, once; without cycles, so that nothing waits for the collector."""
        if self._over:
            return
        self._over = True
        self._stream.receiver = self._backlog = None
        self._calls.account.held -= self._held
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        handler, self._handler = self._handler, None
        if handler is not None:
            try:
                handler.closed(cause)
            except Exception:
                logger.exception("internal error at the end of a call")


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
        account: Account | None = None,
    ) -> None:
        self.connection = Connection(self, limits)
        self.loop = loop
        self.flush = flush  # asks that what is to be written be written soon
        self.limits = limits
        self.max_message_bytes = max_message_bytes
        self.account = account or Account()
        self._methods = methods
        self._queue: deque[Call] = deque()  # calls that have more messages than fit into one turn
        self._turn_waits = False
        self.paused = False  # the peer does not take the answers that there are: no call goes on
        self._counted = 0

    def opened(self, stream: Stream, head: Head, *, ended: bool) -> None:
        """A new stream: find its method, or say what is wrong."""
        named = head.named
        if named[b":method"] != b"POST":
            self.connection.send_end(stream, NOT_POST_BLOCK)
            return
        if not _CONTENT_TYPE.fullmatch(named.get(b"content-type", b"")):
            self.connection.send_end(stream, NOT_GRPC_BLOCK)
            return
        call = Call(self, stream)
        method = self._methods.get(named[b":path"])
        if method is None:
            call.fail(Status.UNIMPLEMENTED, "unknown method")
            return
        stream.receiver = call
        call.begin(method, named.get(b"grpc-timeout"))
        if ended:
            call.received(b"", 0, 0, ended=True)

    def look(self) -> None:
        """Called now and then: end what does not get on."""
        self.connection.look()
        if self.account.held:
            for stream in self.connection.open_streams():
                if isinstance(stream.receiver, Call):
                    stream.receiver.look()

    # ---- turns: a connection may do so much until others have theirs, however many calls it has

    def count(self) -> None:
        """A message that shared its frame with others, so that the number of frames tells nothing of the work."""
        self._counted += 1
        if self._counted >= MESSAGES_PER_TURN:
            self._counted = 0
            self.connection.end_turn()

    def queue(self, call: Call) -> None:
        """Let a call go on when it is its turn."""
        self._queue.append(call)
        self._wait_for_turn()

    def resume(self) -> None:
        """Let calls go on."""
        self.paused = False
        self._wait_for_turn()

    def _wait_for_turn(self) -> None:
        if self._queue and not self._turn_waits and not self.paused:
            self._turn_waits = True
            self.loop.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        self._turn_waits = False
        while self._queue and not self.paused and not self._queue.popleft().go_on():
            pass
        self._wait_for_turn()

    def cut(self, status: Status, message: str) -> None:
        """End every call, as when the time to drain is up."""
        for stream in self.connection.open_streams():
            if isinstance(stream.receiver, Call):
                stream.receiver.fail(status, message)
