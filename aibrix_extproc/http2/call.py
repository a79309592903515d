"""One gRPC call: messages out of DATA to its handler, answers and the status back into frames."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Final

from aibrix_extproc.http2.deframer import PREFIX, Message, check_prefix, length_prefixed
from aibrix_extproc.http2.frames import ErrorCode, Piece
from aibrix_extproc.http2.grpc_timeout import parse_timeout
from aibrix_extproc.http2.handler import CallOutcome, Handler, Method
from aibrix_extproc.http2.listener_limits import Refusal
from aibrix_extproc.http2.request_buffer import RequestBuffer
from aibrix_extproc.http2.status import HEAD_BLOCK, OK_BLOCK, CallError, Status, status_block
from aibrix_extproc.http2.streams import Stream
from aibrix_extproc.http2.turn_work import MESSAGES_PER_TURN

if TYPE_CHECKING:
    from aibrix_extproc.http2.call_table import CallTable

logger = logging.getLogger(__name__)

_PREFIX_BYTES: Final = PREFIX.size
_unpack_prefix = PREFIX.unpack_from
# The codes with which peers reset a call that they need no longer. Envoy sends INTERNAL_ERROR for every stream that it
# resets itself, which is how half of all normal exchanges end; up to 1.35 it sent NO_ERROR.
_CANCEL_CODES: Final = frozenset({ErrorCode.CANCEL, ErrorCode.NO_ERROR, ErrorCode.INTERNAL_ERROR})


class Call:
    """The call of one stream: the stream's receiver, and the responder of its handler."""

    __slots__ = (
        "_buffer",
        "_calls",
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
        self._buffer: RequestBuffer | None = None  # while something of the request is kept
        self._head_sent = False
        self._half_closed = False
        self._over = False
        self._silent: bool | None = False  # True: no message had come at the last check; None: one has come
        calls.silent += 1
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._handler: Handler | None = None

    def begin(self, method: Method, timeout: bytes | None) -> None:
        """Make the handler, and start the deadline if the client sent one."""
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
        self._timer = self._calls.loop.call_later(seconds, self._expire)

    # ---- Responder

    def send(self, messages: Iterable[bytes]) -> None:
        """Send messages; the event loop writes them at the end of its turn."""
        self.send_framed(map(length_prefixed, messages))

    def send_framed(self, data: Iterable[Piece]) -> None:
        """Send pieces of messages that have their length prefix already."""
        if not self._over:
            self._write(data)
            self._calls.flush()

    @property
    def congested(self) -> bool:
        """Whether answers wait in the socket because the peer does not read them."""
        return self._calls.paused

    def start(self, waiting: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine for the handler, until it is done or the call is over."""
        if self._over:
            waiting.close()
            return
        self._task = self._calls.loop.create_task(waiting)
        self._task.add_done_callback(self._on_task_done)

    def finish(self) -> None:
        """End the call with the status OK."""
        if not self._over:
            self._finish()
            self._calls.flush()

    def _on_task_done(self, task: "asyncio.Task[None]") -> None:
        self._task = None
        error = None if task.cancelled() else task.exception()
        if self._over:
            return
        if isinstance(error, CallError):
            self.fail(error.status, error.message)
        elif error is not None:
            logger.error("internal error in a call that waited", exc_info=error)
            self.fail(Status.INTERNAL, "internal error")
        if self._has_backlog:
            self._calls.queue(self)
        else:
            self.go_on()

    @property
    def _has_backlog(self) -> bool:
        return self._buffer is not None and self._buffer.backlog is not None

    def go_on(self) -> bool:
        """Take the backlog: what came while the handler waited, or exceeded a turn. False if the call is over."""
        if self._over:
            self._calls.flush()
            return False
        backlog = None if self._buffer is None else self._buffer.take_backlog()
        if backlog:
            self._guarded(self._deframe, backlog, 0, len(backlog))
        if not self._over and not self._has_backlog:
            if self._stream.paused:
                self._calls.connection.resume(self._stream)
            self._answer_end()
        self._calls.flush()
        return True

    # ---- StreamReceiver

    def received(self, data: bytes, start: int, end: int, *, ended: bool) -> None:
        """Take a piece of the request: any part of a message, or of several."""
        if start < end:
            if self._task is not None or self._has_backlog:
                self._guarded(self._keep, data, start, end)
            else:
                self._guarded(self._take, data, start, end)
        if ended:
            self._half_closed = True
            self._answer_end()

    def _guarded(self, step: "Callable[[bytes | bytearray, int, int], None]", data: Any, start: int, end: int) -> None:
        """Run one step. An exception ends this call and nothing else."""
        try:
            step(data, start, end)
        except CallError as error:
            self.fail(error.status, error.message)
        except Exception:
            logger.exception("internal error in a call")
            self.fail(Status.INTERNAL, "internal error")

    def _take(self, data: bytes | bytearray, start: int, end: int) -> None:
        if self._buffer is None:
            if end - start >= _PREFIX_BYTES:
                compressed, size = _unpack_prefix(data, start)
                start_of_message = start + _PREFIX_BYTES
                if size == end - start_of_message:  # one message and nothing else, as in most frames
                    check_prefix(compressed, size, self._calls.max_message_bytes)
                    self._deliver(bytes(data[start_of_message:end]), size)
                    return
        elif self._buffer.add_to_message(data, start, end):
            return
        self._deframe(data, start, end)

    def _make_buffer(self) -> RequestBuffer:
        calls = self._calls
        self._buffer = RequestBuffer(calls.limits, calls.memory, calls.max_message_bytes)
        return self._buffer

    def _deframe(self, data: bytes | bytearray, start: int, end: int) -> None:
        buffer = self._buffer or self._make_buffer()
        for _ in range(MESSAGES_PER_TURN):
            message, start = buffer.next_message(data, start, end)
            if message is None:
                break
            self._calls.count_shared_frame()
            self._deliver(message, len(message) if isinstance(message, bytes) else sum(map(len, message)))
            if self._over:
                return
            if self._task is not None:
                break
        if start < end:
            self._keep(data, start, end)
            if self._task is None:
                self._calls.queue(self)
            return
        buffer.count()
        if not buffer.unfinished:
            self._buffer = None

    def _keep(self, data: bytes | bytearray, start: int, end: int) -> None:
        """Put bytes into the backlog. The peer may fill its window, but gets no more room."""
        self._stream.paused = True
        (self._buffer or self._make_buffer()).keep(data, start, end)

    def _deliver(self, message: Message, size: int) -> None:
        handler = self._handler
        assert handler is not None
        self._calls.count_bytes(size)
        if self._silent is not None:
            self._silent = None
            self._calls.silent -= 1
        replies = handler.message(message) if isinstance(message, bytes) else handler.large_message(message)
        if replies:
            self._write(map(length_prefixed, replies))

    def _answer_end(self) -> None:
        """Answer the end of the request, once everything before it is answered."""
        if not self._half_closed or self._over or self._task is not None or self._has_backlog:
            return
        if self._buffer is not None:
            self.fail(Status.INTERNAL, "the last message is cut short")
        else:
            self._guarded(self._on_half_close, b"", 0, 0)

    def _on_half_close(self, *_: object) -> None:
        assert self._handler is not None
        self._write(map(length_prefixed, self._handler.half_closed()))
        if self._task is None and not self._over:
            self._finish()

    def check_progress(self) -> None:
        """End a call that had no message, or an unfinished one, at this check and at the one before."""
        if self._silent:
            self._calls.refuse(Refusal.SILENT)
            self.fail(Status.DEADLINE_EXCEEDED, "no message comes")
            return
        if self._silent is False:
            self._silent = self._buffer is None
        if self._buffer is not None and self._buffer.check_progress() and self._task is None:
            self.fail(Status.DEADLINE_EXCEEDED, "a message does not come to its end")

    def stream_closed(self, code: int) -> None:
        """The stream is closed: the peer reset it, broke a rule, or lost the connection."""
        self._end(CallOutcome.CANCELLED if code in _CANCEL_CODES else CallOutcome.FAILED)

    # ---- answers and the end

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
        self._end(CallOutcome.COMPLETED)

    def _expire(self) -> None:
        self.fail(Status.DEADLINE_EXCEEDED, "deadline exceeded")
        self._calls.flush()

    def fail(self, status: Status, message: str) -> None:
        """End the call with a status. If nothing was sent yet, the trailers are the whole answer (Trailers-Only)."""
        if self._over:
            return
        block = status_block(status, message)
        self._calls.connection.send_end(self._stream, block if self._head_sent else HEAD_BLOCK + block)
        self._end(CallOutcome.FAILED)

    def _end(self, outcome: CallOutcome) -> None:
        """Release everything, once. No reference cycle remains, so nothing waits for the garbage collector."""
        if self._over:
            return
        self._over = True
        self._calls.usage.close_stream()
        self._calls.silent -= self._silent is not None
        self._stream.receiver = None
        if self._buffer is not None:
            self._buffer.release()
            self._buffer = None
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        handler, self._handler = self._handler, None
        if handler is not None:
            try:
                handler.closed(outcome)
            except Exception:
                logger.exception("internal error at the end of a call")
