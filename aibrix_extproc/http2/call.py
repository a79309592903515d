"""One gRPC call: messages out of DATA, answers and statuses back into frames."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Final

from aibrix_extproc.core.exchange.events import Cause
from aibrix_extproc.http2.deframer import PREFIX, Deframer, check_prefix, length_prefixed
from aibrix_extproc.http2.frames import ErrorCode
from aibrix_extproc.http2.grpc_timeout import parse_timeout
from aibrix_extproc.http2.handler import Handler, Method
from aibrix_extproc.http2.limits import MESSAGES_PER_TURN
from aibrix_extproc.http2.listener_limits import Refusal
from aibrix_extproc.http2.status import (
    HEAD_BLOCK,
    OK_BLOCK,
    CallError,
    Status,
    status_block,
)
from aibrix_extproc.http2.streams import Stream
from aibrix_extproc.rope import Piece, Rope

if TYPE_CHECKING:
    from aibrix_extproc.http2.call_table import CallTable

logger = logging.getLogger(__name__)

_PREFIX_BYTES: Final = PREFIX.size
_unpack_prefix = PREFIX.unpack_from
# How peers end a call that is not needed any more. Envoy names INTERNAL_ERROR for every stream that it resets itself,
# which is how half of all normal exchanges end; up to 1.35 it named NO_ERROR.
_ORDERLY: Final = frozenset({ErrorCode.CANCEL, ErrorCode.NO_ERROR, ErrorCode.INTERNAL_ERROR})


class Call:
    """One stream: cuts messages out of it and gives the answers back."""

    __slots__ = (
        "_backlog",
        "_buffered",
        "_calls",
        "_deframer",
        "_half_closed",
        "_handler",
        "_head_sent",
        "_over",
        "_silent",
        "_stream",
        "_task",
        "_timer",
    )

    def __init__(self, calls: "CallTable", stream: Stream) -> None:
        self._calls = calls
        self._stream = stream
        self._deframer: Deframer | None = None  # once a message was not alone in its frame
        self._buffered = 0  # bytes, as counted in `memory`
        self._head_sent = False
        self._half_closed = False
        self._over = False
        self._silent: bool | None = False  # True once a check has found that no message has come; None: one has
        calls.silent += 1
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
        seconds = parse_timeout(timeout)
        if seconds is None:
            self.fail(Status.INTERNAL, "malformed grpc-timeout")
            return
        self._timer = self._calls.loop.call_later(seconds, self._expired)

    # ---- Reply

    def send(self, messages: Iterable[bytes]) -> None:
        """Send messages and let the loop write them."""
        self.send_raw(map(length_prefixed, messages))

    def send_raw(self, data: Iterable[Piece]) -> None:
        """Send pieces of messages that have their length prefix already."""
        if not self._over:
            self._write(data)
            self._calls.flush()

    @property
    def congested(self) -> bool:
        """Whether the peer does not take what was sent."""
        return self._calls.paused

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
            self._guarded(self._deframe, backlog, 0, len(backlog))
        if not self._over and self._backlog is None:
            self._update_memory()
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
        deframer = self._deframer
        if deframer is None:
            if end - start >= _PREFIX_BYTES:
                compressed, size = _unpack_prefix(data, start)
                start_of_message = start + _PREFIX_BYTES
                if size == end - start_of_message:  # a message and nothing else: what nearly every frame is
                    check_prefix(compressed, size, self._calls.max_message_bytes)
                    self._deliver(bytes(data[start_of_message:end]))
                    return
        elif end - start < deframer.missing:  # the middle of a large one
            deframer.add(data[start:end])
            self._buffered += end - start
            self._calls.memory.buffered += end - start
            self._check_buffered()
            return
        self._deframe(data, start, end)

    def _deframe(self, data: bytes | bytearray, start: int, end: int) -> None:
        if self._deframer is None:
            self._deframer = Deframer(self._calls.max_message_bytes)
        for _ in range(MESSAGES_PER_TURN):
            message, start = self._deframer.next(data, start, end)
            if message is None:
                break
            self._calls.count_shared_frame()
            self._deliver(message)
            if self._over:
                return
            if self._task is not None:
                break
        if start < end:
            self._keep(data, start, end)
            if self._task is None:
                self._calls.queue(self)
        elif not self._deframer.unfinished:
            self._deframer = None
        self._update_memory()
        self._check_buffered()

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
        self._update_memory()
        self._check_buffered()

    def _update_memory(self) -> None:
        buffered = self._deframer.buffered if self._deframer is not None else 0
        if self._backlog is not None:
            buffered += len(self._backlog)
        self._calls.memory.buffered += buffered - self._buffered
        self._buffered = buffered

    def _check_buffered(self) -> None:
        """Hold the server to its bound on what is neither complete nor handled."""
        if self._calls.memory.buffered > self._calls.limits.buffered_bytes:
            raise CallError(Status.RESOURCE_EXHAUSTED, "too much is waiting")

    def _deliver(self, message: bytes | Rope) -> None:
        assert self._handler is not None
        self._calls.count(len(message))
        if self._silent is not None:
            self._silent = None
            self._calls.silent -= 1
        replies = self._handler.message(message)
        if replies:
            self._write(map(length_prefixed, replies))

    def _settle(self) -> None:
        """Answer the end of the request, once everything before it is answered."""
        if not self._half_closed or self._over or self._task is not None or self._backlog is not None:
            return
        if self._deframer is not None:
            self.fail(Status.INTERNAL, "the last message is cut short")
        else:
            self._guarded(self._on_half_close, b"", 0, 0)

    def _on_half_close(self, *_: object) -> None:
        assert self._handler is not None
        self._write(map(length_prefixed, self._handler.half_closed()))
        if self._task is None and not self._over:
            self._finish()

    def check_progress(self) -> None:
        """Called now and then: a call without a message, or with an unfinished one, ends at the second check."""
        if self._silent:
            self._calls.refuse(Refusal.SILENT)
            self.fail(Status.DEADLINE_EXCEEDED, "no message comes")
            return
        if self._silent is False:
            self._silent = self._deframer is None and self._backlog is None
        if (
            self._deframer is not None
            and self._deframer.check_progress()
            and self._task is None
            and self._backlog is None
        ):
            self.fail(Status.DEADLINE_EXCEEDED, "a message does not come to its end")

    def reset_by_peer(self, code: int) -> None:
        """The stream was reset, by the peer or for a fault of it, or the connection is gone."""
        self._end(Cause.CANCELLED if code in _ORDERLY else Cause.FAILED)

    # ---- answers and ends

    def _write(self, data: Iterable[Piece]) -> None:
        connection, stream = self._calls.connection, self._stream
        for piece in data:
            if not self._head_sent:
                self._head_sent = True
                connection.send_headers(stream, HEAD_BLOCK)
            connection.send_data(stream, piece)

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
        self._calls.usage.close_stream()
        self._calls.silent -= self._silent is not None
        self._stream.receiver = self._backlog = self._deframer = None
        self._calls.memory.buffered -= self._buffered
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
