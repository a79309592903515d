"""The server's side of one HTTP/2 connection, without I/O: bytes in, calls to a listener, bytes out.

Strict and bounded: what RFC 9113 calls a connection error ends the connection with GOAWAY and the right code, a stream
error resets the stream. No exception leaves `receive`, whatever the bytes. Header blocks are decoded by hpack; answers
are handed in as encoded blocks, since a gRPC server's answers are constants.
"""

from typing import Protocol

from aibrix_extproc.http2 import frames
from aibrix_extproc.http2.control_frames import ControlFrames, greeting, priority_error
from aibrix_extproc.http2.errors import ProtocolError
from aibrix_extproc.http2.frame_reader import FrameReader
from aibrix_extproc.http2.frames import ErrorCode
from aibrix_extproc.http2.header_blocks import Head, HeaderBlocks, fragment, without_padding
from aibrix_extproc.http2.limits import KIB, ConnectionLimits, TokenBucket
from aibrix_extproc.http2.send_queue import SendQueue
from aibrix_extproc.http2.streams import ResetStreams, Stream
from aibrix_extproc.rope import Piece


class Listener(Protocol):
    """Who is told of new streams."""

    def opened(self, stream: Stream, head: Head, *, ended: bool) -> None:
        """A stream with its request headers: answer it, or name its receiver. Raises nothing."""


class Connection:
    """One connection. Call `receive`, then write what `take` gives; `closing` says when to hang up after that."""

    def __init__(self, listener: Listener, limits: ConnectionLimits) -> None:
        self._listener = listener
        self._limits = limits
        self._blocks = HeaderBlocks(limits)
        self._streams: dict[int, Stream] = {}
        self._reset_streams = ResetStreams(limits.stream_window)
        self._send_queue = SendQueue(self._on_finished)
        self._control = ControlFrames(limits, self._send_queue, self._streams)
        self._reader = FrameReader(limits, self._frame)
        self._last_id = 0
        self._promised_id: int | None = None  # streams after it are refused
        self._window = limits.connection_window
        self._empty = TokenBucket(limits.empty_streams, limits.empty_streams_per_second)
        self._unanswered = TokenBucket(limits.unanswered_streams, limits.unanswered_streams_per_second)
        self._at = 0.0
        self.closing = False
        self.fault: str | None = None
        self._send_queue.control(greeting(limits))

    @property
    def streams(self) -> int:
        """Streams that are open."""
        return len(self._streams)

    @property
    def unsent(self) -> int:
        """Bytes of answers that wait for room in the peer's windows."""
        return self._send_queue.unsent

    def open_streams(self) -> tuple[Stream, ...]:
        """All of them, as they are now."""
        return tuple(self._streams.values())

    @property
    def handshake_done(self) -> bool:
        """Whether the peer has shown that it speaks HTTP/2."""
        return self._control.settings_seen

    @property
    def behind(self) -> bool:
        """Whether a turn ended before everything was read: call `receive` again, after others had their turn."""
        return self._reader.behind

    def check_progress(self) -> None:
        """Called now and then: what was unfinished at the last check, and still is, ends the connection."""
        if self.closing:
            return
        if self._reader.check_progress():
            self._fail(ErrorCode.ENHANCE_YOUR_CALM, "a frame does not come to its end")
        elif self._blocks.check_progress():
            self._fail(ErrorCode.ENHANCE_YOUR_CALM, "a header block does not come to its end")
        elif self._send_queue.check_progress():
            self._fail(ErrorCode.ENHANCE_YOUR_CALM, "answers are not taken")

    def end_turn(self) -> None:
        """Read no further in this turn: the frame at hand took as long as many others."""
        self._reader.end_turn()

    @property
    def has_more(self) -> bool:
        """Whether more is to be written, in another turn."""
        return self._send_queue.has_more

    def take(self) -> bytes:
        """What is to be written now."""
        return self._send_queue.take()

    # ---- what the peer sends

    def receive(self, data: bytes, at: float) -> None:
        """Take bytes in whatever pieces; `at` is monotonic seconds."""
        if self.closing:
            return
        self._at = at
        self._blocks.work = 0
        try:
            self._reader.feed(data)
        except ProtocolError as fault:
            self._fail(fault.code, str(fault))

    def _frame(self, kind: int, flags: int, stream_id: int, data: bytes, start: int, end: int) -> None:
        """One frame, its payload at `data[start:end]`."""
        if kind == frames.DATA and not self._blocks.stream_id and self._control.settings_seen:
            self._on_data(flags, stream_id, data, start, end)
            return
        if self._blocks.stream_id and kind != frames.CONTINUATION:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "a header block was interrupted")
        if not self._control.settings_seen and kind != frames.SETTINGS:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "SETTINGS must come first")
        payload = data[start:end]
        if kind == frames.HEADERS:
            self._on_headers(flags, stream_id, payload)
        elif kind == frames.RST_STREAM:
            self._on_reset(stream_id, payload)
        elif kind == frames.WINDOW_UPDATE:
            self._on_window_update(stream_id, payload)
        elif kind == frames.CONTINUATION:
            self._on_continuation(flags, stream_id, payload)
        elif kind == frames.PRIORITY:
            self._on_priority(stream_id, payload)
        else:
            self._control.frame(kind, flags, stream_id, payload, self._at)
            if kind == frames.SETTINGS and self._streams:  # it may have moved the window of each
                self._reader.end_turn()

    def _spend(self, what: str) -> None:
        self._control.spend(self._at, what)

    def _spend_stream(self, what: str) -> None:
        if not self._empty.spend(self._at):
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, f"too many {what}")

    def _on_data(self, flags: int, stream_id: int, data: bytes, start: int, end: int) -> None:
        size = end - start
        if flags & frames.PADDED:
            start, end = without_padding(data, start, end)
        self._take_window(size)
        stream = self._streams.get(stream_id)
        ended = bool(flags & frames.END_STREAM)
        if stream is None or not stream.remote_open:
            self._on_late_data(stream_id, stream, size, ended=ended)
            return
        stream.receive_window -= size
        if stream.receive_window < 0:
            self._stream_error(stream, ErrorCode.FLOW_CONTROL_ERROR)
            return
        if stream.expected_bytes >= 0 and not stream.count(end - start, ended=ended):
            self._stream_error(stream, ErrorCode.PROTOCOL_ERROR)
            return
        if start < end:
            self._control.useful += 1
            stream.heard = True
        elif not ended:
            self._spend("empty frames")
        if ended:
            stream.remote_open = False
        else:
            self._refill(stream)
            if start == end:
                return
        if stream.receiver is not None:
            stream.receiver.received(data, start, end, ended=ended)

    def _take_window(self, size: int) -> None:
        """Room of the connection is given back at once: what is buffered is bounded by what each call may hold."""
        self._window -= size
        if self._window < 0:
            raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window is exceeded")
        if self._window < self._limits.connection_window // 2:
            self._send_queue.control(frames.window_update(0, self._limits.connection_window - self._window))
            self._window = self._limits.connection_window

    def _refill(self, stream: Stream) -> None:
        most = self._limits.stream_window
        if stream.receive_window < most // 2 and not stream.paused:
            self._send_queue.control(frames.window_update(stream.id, most - stream.receive_window))
            stream.receive_window = most

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id % 2 == 0:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "HEADERS on a stream that a client cannot open")
        payload = fragment(stream_id, flags, payload)
        if flags & frames.END_HEADERS:
            self._on_block(stream_id, flags, payload)
        else:
            self._blocks.begin(stream_id, flags, payload)

    def _on_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        block = self._blocks.add(stream_id, flags, payload)
        if block is not None:
            self._on_block(stream_id, self._blocks.flags, block)

    def _on_block(self, stream_id: int, flags: int, block: bytes) -> None:
        head = self._blocks.decode(block)  # even for a stream that is over: the table must follow
        if self._blocks.work >= self._limits.header_work_per_turn:
            self._reader.end_turn()
        ended = bool(flags & frames.END_STREAM)
        if stream_id > self._last_id:
            self._open(stream_id, head, ended=ended)
            return
        stream = self._streams.get(stream_id)
        if stream is not None:
            self._on_trailers(stream, head, ended=ended)
        elif stream_id in self._reset_streams:
            self._spend("frames for streams that are over")
        else:
            raise ProtocolError(ErrorCode.STREAM_CLOSED, "HEADERS for a stream that is over")

    def _open(self, stream_id: int, head: Head, *, ended: bool) -> None:
        self._last_id = stream_id
        if self._promised_id is not None or len(self._streams) >= self._limits.concurrent_streams:
            self._refuse(stream_id, ErrorCode.REFUSED_STREAM, ended=ended)
            return
        if not head.is_request or (ended and head.content_length):
            self._spend_stream("malformed requests")
            self._refuse(stream_id, ErrorCode.PROTOCOL_ERROR, ended=ended)
            return
        stream = Stream(stream_id, self._limits.stream_window, self._send_queue.initial_window)
        if head.content_length is not None:
            stream.expected_bytes = head.content_length
        stream.remote_open = not ended
        self._streams[stream_id] = stream
        self._listener.opened(stream, head, ended=ended)

    def _refuse(self, stream_id: int, code: ErrorCode, *, ended: bool) -> None:
        self._send_queue.control(frames.reset(stream_id, code))
        if not ended:
            self._reset_streams.add(stream_id)

    def _on_trailers(self, stream: Stream, head: Head, *, ended: bool) -> None:
        if not stream.remote_open:
            self._stream_error(stream, ErrorCode.STREAM_CLOSED)
        elif not ended or not head.is_trailers or not stream.count(0, ended=True):
            self._stream_error(stream, ErrorCode.PROTOCOL_ERROR)
        else:
            stream.remote_open = False
            if stream.receiver is not None:
                stream.receiver.received(b"", 0, 0, ended=True)

    # ---- frames for streams that are over

    def _on_late_data(self, stream_id: int, stream: Stream | None, size: int, *, ended: bool) -> None:
        if self._is_idle(stream_id):
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "DATA for a stream that was never opened")
        if stream is not None:  # the peer had ended it
            self._stream_error(stream, ErrorCode.STREAM_CLOSED)
            return
        if stream_id in self._reset_streams:
            self._reset_streams.data(stream_id, size, ended=ended)
        else:
            self._spend("frames for streams that are over")
            self._send_queue.control(frames.reset(stream_id, ErrorCode.STREAM_CLOSED))

    def _is_idle(self, stream_id: int) -> bool:
        return stream_id > self._last_id or stream_id % 2 == 0

    def _on_priority(self, stream_id: int, payload: bytes) -> None:
        self._spend("control frames")
        code = priority_error(stream_id, payload)
        if code is None:
            return
        stream = self._streams.get(stream_id)
        if stream is None:
            raise ProtocolError(code, "PRIORITY is malformed")
        self._stream_error(stream, code)

    def _on_window_update(self, stream_id: int, payload: bytes) -> None:
        if len(payload) != frames.WORD_BYTES:
            raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE has another size")
        increment = frames.unpack_word(payload)[0] & frames.MAX_WINDOW
        code = ErrorCode.FLOW_CONTROL_ERROR if increment else ErrorCode.PROTOCOL_ERROR
        unsent = self._send_queue.unsent
        if stream_id == 0:
            if not self._send_queue.grow_connection(increment) or not increment:
                raise ProtocolError(code, "the connection's window cannot grow like this")
        elif self._is_idle(stream_id):
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE for an idle stream")
        else:
            stream = self._streams.get(stream_id)
            if stream is not None and (not self._send_queue.grow_stream(stream, increment) or not increment):
                self._stream_error(stream, code)
        if unsent:
            self._send_queue.flush()
        if unsent - self._send_queue.unsent < KIB:
            self._spend("window updates")

    def _on_reset(self, stream_id: int, payload: bytes) -> None:
        if self._is_idle(stream_id):
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "RST_STREAM for an idle stream")
        if len(payload) != frames.WORD_BYTES:
            raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM has another size")
        stream = self._streams.get(stream_id)
        if stream is None:
            if not self._reset_streams.over(stream_id):
                self._spend("frames for streams that are over")
            return
        if not stream.heard:
            self._spend_stream("streams that are opened to be reset")
        elif not stream.answered and not self._unanswered.spend(self._at):
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "too many streams that are not answered before a reset")
        self._drop(stream)
        stream.notify_reset(frames.unpack_word(payload)[0])

    # ---- what we send

    def send_headers(self, stream: Stream, block: bytes) -> None:
        """An encoded header block that does not end the stream."""
        self._send_queue.headers(stream, block)

    def send_data(self, stream: Stream, data: Piece) -> None:
        """A piece of the answer; waits for room in the windows if it must."""
        self._send_queue.data(stream, data)
        if self._send_queue.unsent > self._limits.unsent_bytes:
            self._fail(ErrorCode.ENHANCE_YOUR_CALM, "answers are not taken")

    def send_end(self, stream: Stream, block: bytes) -> None:
        """Trailers; the stream is finished with them."""
        self._send_queue.end(stream, block)

    def resume(self, stream: Stream) -> None:
        """A receiver that was busy takes more."""
        stream.paused = False
        if stream.is_open and stream.remote_open:
            self._refill(stream)

    def announce_end(self) -> None:
        """First step of an orderly end: no promise yet which streams are taken (RFC 9113, 6.8)."""
        if not self.closing:
            self._send_queue.control(frames.go_away(frames.MAX_WINDOW, ErrorCode.NO_ERROR))

    def refuse_new(self) -> None:
        """Second step: streams up to now are served, later ones refused."""
        if not self.closing and self._promised_id is None:
            self._promised_id = self._last_id
            self._send_queue.control(frames.go_away(self._last_id, ErrorCode.NO_ERROR))

    # ---- ends

    def _on_finished(self, stream: Stream) -> None:
        remote_open = stream.remote_open
        self._drop(stream)
        if remote_open:  # the answer is complete, the rest of the request is not wanted (RFC 9113, 8.1)
            self._refuse(stream.id, ErrorCode.NO_ERROR, ended=False)

    def _stream_error(self, stream: Stream, code: ErrorCode) -> None:
        self._spend_stream("broken streams")
        self._drop(stream)
        self._refuse(stream.id, code, ended=not stream.remote_open)
        stream.notify_reset(code)

    def _drop(self, stream: Stream) -> None:
        del self._streams[stream.id]
        stream.is_open = False
        self._send_queue.drop(stream)

    def _fail(self, code: ErrorCode, reason: str) -> None:
        self.fault = reason
        last_id = self._last_id if self._promised_id is None else self._promised_id  # may never grow
        self._send_queue.control(frames.go_away(last_id, code, reason.encode()))
        self.lost(code)

    def lost(self, code: int = ErrorCode.CANCEL) -> None:
        """The connection is gone: every stream is over."""
        self.closing = True
        self._reader.stop()
        for stream in tuple(self._streams.values()):
            if stream.is_open:  # else the end of another one ended it
                self._drop(stream)
                stream.notify_reset(code)
