"""What each frame of the peer means for the connection and its streams (RFC 9113)."""

from typing import Protocol

from aibrix_extproc.http2 import frames
from aibrix_extproc.http2.control_frames import ControlFrames, priority_error
from aibrix_extproc.http2.errors import ProtocolError
from aibrix_extproc.http2.flood_guard import FloodGuard
from aibrix_extproc.http2.flow_control import FlowControl
from aibrix_extproc.http2.frame_reader import FrameReader
from aibrix_extproc.http2.frames import ErrorCode
from aibrix_extproc.http2.header_blocks import HeaderBlocks, Headers, fragment, without_padding
from aibrix_extproc.http2.limits import ConnectionLimits
from aibrix_extproc.http2.stream_table import StreamTable
from aibrix_extproc.http2.streams import Stream


class Listener(Protocol):
    """Takes new streams."""

    def opened(self, stream: Stream, headers: Headers, *, ended: bool) -> None:
        """Answer a request, or set the receiver of its stream. Raises nothing."""


class Inbound:
    """Reads the bytes of one peer and applies its frames. A connection error leaves as a ProtocolError."""

    def __init__(self, listener: Listener, limits: ConnectionLimits, table: StreamTable) -> None:
        self._listener = listener
        self._header_work_per_turn = limits.header_work_per_turn
        self._table = table
        self._streams = table.open
        self._guard = FloodGuard(limits)
        self._blocks = HeaderBlocks(limits)
        self._flow = FlowControl(limits, table.send_queue, self._guard)
        self._control = ControlFrames(limits, table.send_queue, table.open, self._guard)
        self.reader = FrameReader(limits, self._on_frame)

    @property
    def settings_seen(self) -> bool:
        """Whether the peer has sent its SETTINGS."""
        return self._control.settings_seen

    def stalled_part(self) -> str | None:
        """What was unfinished at the last check and still is, if anything."""
        if self.reader.check_progress():
            return "a frame"
        return "a header block" if self._blocks.check_progress() else None

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes, however they are split; `now` is in monotonic seconds. Raises ProtocolError."""
        self._guard.now = now
        self._blocks.work = 0
        self.reader.feed(data)

    def resume(self, stream: Stream) -> None:
        """The receiver of a paused stream takes more."""
        stream.paused = False
        if stream.is_open and stream.remote_open:
            self._flow.refill(stream)

    def _on_frame(self, kind: int, flags: int, stream_id: int, data: bytes, start: int, end: int) -> None:
        """Take one frame; its payload is `data[start:end]`."""
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
            self._control.frame(kind, flags, stream_id, payload)
            if kind == frames.SETTINGS and self._streams:  # it may have changed the window of each
                self.reader.end_turn()

    # ---- DATA

    def _on_data(self, flags: int, stream_id: int, data: bytes, start: int, end: int) -> None:
        size = end - start
        if flags & frames.PADDED:
            start, end = without_padding(data, start, end)
        self._flow.take(size)
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
            self._guard.useful += 1
            stream.got_data = True
        elif not ended:
            self._guard.spend_idle_frame("empty frames")
        if ended:
            stream.remote_open = False
        else:
            self._flow.refill(stream)
            if start == end:
                return
        if stream.receiver is not None:
            stream.receiver.received(data, start, end, ended=ended)

    def _on_late_data(self, stream_id: int, stream: Stream | None, size: int, *, ended: bool) -> None:
        """Take DATA for a stream that is over, or that the peer itself has ended."""
        if self._table.is_idle(stream_id):
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "DATA for a stream that was never opened")
        if stream is not None:
            self._stream_error(stream, ErrorCode.STREAM_CLOSED)
        elif stream_id in self._table.reset_by_us:
            self._table.reset_by_us.late_data(stream_id, size, ended=ended)
        else:
            self._guard.spend_idle_frame("frames for streams that are over")
            self._table.reset(stream_id, ErrorCode.STREAM_CLOSED, ended=True)

    # ---- HEADERS and CONTINUATION

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
        headers = self._blocks.decode(block)  # even for a stream that is over, because the table must follow
        if self._blocks.work >= self._header_work_per_turn:
            self.reader.end_turn()
        ended = bool(flags & frames.END_STREAM)
        if stream_id > self._table.last_id:
            self._open(stream_id, headers, ended=ended)
            return
        stream = self._streams.get(stream_id)
        if stream is not None:
            self._on_trailers(stream, headers, ended=ended)
        elif stream_id in self._table.reset_by_us:
            self._guard.spend_idle_frame("frames for streams that are over")
        else:
            raise ProtocolError(ErrorCode.STREAM_CLOSED, "HEADERS for a stream that is over")

    def _open(self, stream_id: int, headers: Headers, *, ended: bool) -> None:
        self._table.last_id = stream_id
        if self._table.refuses_new:
            self._table.reset(stream_id, ErrorCode.REFUSED_STREAM, ended=ended)
        elif not headers.is_request or (ended and headers.content_length):
            self._guard.spend_empty_stream("malformed requests")
            self._table.reset(stream_id, ErrorCode.PROTOCOL_ERROR, ended=ended)
        else:
            stream = self._table.add(stream_id, headers.content_length, ended=ended)
            self._listener.opened(stream, headers, ended=ended)

    def _on_trailers(self, stream: Stream, headers: Headers, *, ended: bool) -> None:
        if not stream.remote_open:
            self._stream_error(stream, ErrorCode.STREAM_CLOSED)
        elif not ended or not headers.is_trailers or not stream.count(0, ended=True):
            self._stream_error(stream, ErrorCode.PROTOCOL_ERROR)
        else:
            stream.remote_open = False
            if stream.receiver is not None:
                stream.receiver.received(b"", 0, 0, ended=True)

    # ---- other frames of streams

    def _on_priority(self, stream_id: int, payload: bytes) -> None:
        self._guard.spend_idle_frame("control frames")
        code = priority_error(stream_id, payload)
        if code is None:
            return
        stream = self._streams.get(stream_id)
        if stream is None:
            raise ProtocolError(code, "PRIORITY is malformed")
        self._stream_error(stream, code)

    def _on_window_update(self, stream_id: int, payload: bytes) -> None:
        if stream_id != 0 and self._table.is_idle(stream_id):
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE for an idle stream")
        stream = self._streams.get(stream_id)
        code = self._flow.window_update(stream_id, stream, payload)
        if code is not None and stream is not None:
            self._stream_error(stream, code)

    def _on_reset(self, stream_id: int, payload: bytes) -> None:
        if self._table.is_idle(stream_id):
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "RST_STREAM for an idle stream")
        if len(payload) != frames.WORD_BYTES:
            raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM has another size")
        stream = self._streams.get(stream_id)
        if stream is None:
            if not self._table.reset_by_us.ended_by_peer(stream_id):
                self._guard.spend_idle_frame("frames for streams that are over")
            return
        if not stream.got_data:
            self._guard.spend_empty_stream("streams that are opened to be reset")
        elif not stream.answered:
            self._guard.spend_unanswered_stream()
        self._table.remove(stream)
        stream.notify_closed(frames.unpack_word(payload)[0])

    def _stream_error(self, stream: Stream, code: ErrorCode) -> None:
        self._guard.spend_empty_stream("broken streams")
        self._table.fail(stream, code)
