"""The server's side of one HTTP/2 connection, without I/O: bytes in, calls to a listener, bytes out.

Strict and bounded: what RFC 9113 calls a connection error ends the connection with GOAWAY and the right code, a stream
error resets the stream. No exception leaves `receive`, whatever the bytes. Header blocks are decoded by hpack; answers
are handed in as encoded blocks, since a gRPC server's answers are constants.
"""

from aibrix_extproc.adapters.extproc.lean import frames
from aibrix_extproc.adapters.extproc.lean.blocks import Blocks, HeaderList, well_formed
from aibrix_extproc.adapters.extproc.lean.faults import ConnectionFault
from aibrix_extproc.adapters.extproc.lean.frames import ErrorCode, Setting
from aibrix_extproc.adapters.extproc.lean.limits import Budget, Limits
from aibrix_extproc.adapters.extproc.lean.listener import Listener
from aibrix_extproc.adapters.extproc.lean.outbox import Outbox


class _Stream:
    __slots__ = ("received", "remote_open", "window")

    def __init__(self, window: int) -> None:
        self.window = window  # what the peer may still send
        self.remote_open = True
        self.received = False  # anything of a body


class Connection:
    """One connection. Call `receive`, then write what `take` gives; `closing` says when to hang up after that."""

    def __init__(self, listener: Listener, limits: Limits) -> None:
        self._listener = listener
        self._limits = limits
        self._blocks = Blocks(limits)
        self._streams: dict[int, _Stream] = {}
        self._outbox = Outbox(self._on_finished)
        self._buffer = b""
        self._preface_seen = False
        self._settings_seen = False
        self._last_id = 0
        self._window = limits.connection_window
        self._block: list[bytes] | None = None  # an unfinished header block
        self._block_head = (0, 0)  # its stream and flags
        self._going_away = False
        self._idle = Budget(limits.idle_frames, limits.idle_frames_per_second)
        self._empty = Budget(limits.empty_streams, limits.empty_streams_per_second)
        self._at = 0.0
        self.closing = False
        self.fault: str | None = None
        self._outbox.control(
            frames.settings(
                {
                    Setting.MAX_CONCURRENT_STREAMS: limits.concurrent_streams,
                    Setting.INITIAL_WINDOW_SIZE: limits.stream_window,
                    Setting.MAX_FRAME_SIZE: limits.frame_bytes,
                    Setting.MAX_HEADER_LIST_SIZE: limits.header_list_bytes,
                }
            )
        )
        self._outbox.control(frames.window_update(0, limits.connection_window - frames.DEFAULT_WINDOW))

    @property
    def streams(self) -> int:
        """Streams that are open."""
        return len(self._streams)

    def take(self) -> bytes:
        """What is to be written now."""
        return self._outbox.take()

    # ---- what the peer sends

    def receive(self, data: bytes, at: float) -> None:
        """Take bytes in whatever pieces; `at` is monotonic seconds."""
        if self.closing:
            return
        self._at = at
        try:
            self._receive(self._buffer + data if self._buffer else data)
        except ConnectionFault as fault:
            self._fail(fault.code, str(fault))

    def _receive(self, data: bytes) -> None:
        position = 0
        if not self._preface_seen:
            size = len(frames.PREFACE)
            if not frames.PREFACE.startswith(data[:size]):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "this is not HTTP/2")
            if len(data) < size:
                self._buffer = data
                return
            self._preface_seen = True
            position = size
        end = len(data)
        while end - position >= frames.HEADER_BYTES and not self.closing:
            high, low, kind, flags, stream_id = frames.unpack_head(data, position)
            length = (high << 16) + low
            if length > self._limits.frame_bytes:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a frame is too large")
            after = position + frames.HEADER_BYTES + length
            if after > end:
                break
            self._frame(kind, flags, stream_id & frames.MAX_WINDOW, data[position + frames.HEADER_BYTES : after])
            position = after
        self._buffer = data[position:] if position else data

    def _frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if self._block is not None and (kind != frames.CONTINUATION or stream_id != self._block_head[0]):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a header block was interrupted")
        if not self._settings_seen and kind != frames.SETTINGS:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS must come first")
        if kind == frames.DATA:
            self._on_data(flags, stream_id, payload)
        elif kind == frames.HEADERS:
            self._on_headers(flags, stream_id, payload)
        elif kind == frames.WINDOW_UPDATE:
            self._on_window_update(stream_id, payload)
        elif kind == frames.RST_STREAM:
            self._on_reset(stream_id, payload)
        else:
            self._on_rare(kind, flags, stream_id, payload)

    def _spend(self, what: str) -> None:
        """Count a frame that costs work and carries nothing."""
        if not self._idle.spend(self._at):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, f"too many {what}")

    def _on_rare(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if kind == frames.CONTINUATION:
            self._on_continuation(flags, stream_id, payload)
            return
        self._spend("control frames")
        if kind == frames.SETTINGS:
            self._on_settings(flags, stream_id, payload)
        elif kind == frames.PING:
            self._on_ping(flags, stream_id, payload)
        elif kind == frames.GOAWAY:
            if stream_id != 0:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "GOAWAY on a stream")
            if len(payload) < 8:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY is too short")
            self._going_away = True  # the peer opens no more streams; what runs goes on
        elif kind == frames.PRIORITY:
            self._check_priority(stream_id, payload)
        elif kind == frames.PUSH_PROMISE:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a client cannot push")
        # Frames of other kinds are ignored, as the protocol demands.

    def _check_priority(self, stream_id: int, payload: bytes) -> None:
        if stream_id == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PRIORITY without a stream")
        if len(payload) != 5:
            self._stream_fault(stream_id, ErrorCode.FRAME_SIZE_ERROR)
        elif frames.unpack_word(payload)[0] & frames.MAX_WINDOW == stream_id:
            self._stream_fault(stream_id, ErrorCode.PROTOCOL_ERROR)

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        size = len(payload)
        if stream_id == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "DATA without a stream")
        if flags & frames.PADDED:
            payload = _unpadded(payload)
        self._window -= size
        if self._window < 0:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window is exceeded")
        if self._window < self._limits.connection_window // 2:
            self._outbox.control(frames.window_update(0, self._limits.connection_window - self._window))
            self._window = self._limits.connection_window
        stream = self._streams.get(stream_id)
        if stream is None or not stream.remote_open:
            self._refuse_late(stream_id)
            return
        ended = bool(flags & frames.END_STREAM)
        stream.window -= size
        if stream.window < 0:
            self._stream_fault(stream_id, ErrorCode.FLOW_CONTROL_ERROR)
            return
        if not payload and not ended:
            self._spend("empty frames")
            return
        if not ended and stream.window < self._limits.stream_window // 2:
            self._outbox.control(frames.window_update(stream_id, self._limits.stream_window - stream.window))
            stream.window = self._limits.stream_window
        stream.received = True
        stream.remote_open = not ended
        self._listener.received(stream_id, payload, ended=ended)

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id % 2 == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "HEADERS on a stream that a client cannot open")
        if flags & frames.PADDED:
            payload = _unpadded(payload)
        if flags & frames.WITH_PRIORITY:
            if len(payload) < 5:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "HEADERS is too short")
            if frames.unpack_word(payload)[0] & frames.MAX_WINDOW == stream_id:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a stream depends on itself")
            payload = payload[5:]
        self._block_head = (stream_id, flags)
        if flags & frames.END_HEADERS:
            self._on_block(payload)
        else:
            self._block = [payload]

    def _on_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        if self._block is None or stream_id != self._block_head[0]:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        self._block.append(payload)
        too_long = sum(map(len, self._block)) > self._limits.header_block_bytes
        if too_long or len(self._block) > self._limits.continuations:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a header block does not end")
        if flags & frames.END_HEADERS:
            block, self._block = b"".join(self._block), None
            self._on_block(block)

    def _on_block(self, block: bytes) -> None:
        stream_id, flags = self._block_head
        headers = self._blocks.decode(block)
        ended = bool(flags & frames.END_STREAM)
        stream = self._streams.get(stream_id)
        if stream is not None:
            self._on_trailers(stream_id, stream, headers, ended=ended)
        elif stream_id <= self._last_id:
            self._refuse_late(stream_id)
        else:
            self._open(stream_id, headers, ended=ended)

    def _open(self, stream_id: int, headers: HeaderList, *, ended: bool) -> None:
        self._last_id = stream_id
        if self._going_away or len(self._streams) >= self._limits.concurrent_streams:
            self._outbox.control(frames.reset(stream_id, ErrorCode.REFUSED_STREAM))
            return
        if not well_formed(headers):
            self._outbox.control(frames.reset(stream_id, ErrorCode.PROTOCOL_ERROR))
            return
        stream = _Stream(self._limits.stream_window)
        stream.remote_open = not ended
        self._streams[stream_id] = stream
        self._outbox.open(stream_id)
        self._listener.opened(stream_id, headers, ended=ended)

    def _on_trailers(self, stream_id: int, stream: _Stream, headers: HeaderList, *, ended: bool) -> None:
        if not stream.remote_open:
            self._stream_fault(stream_id, ErrorCode.STREAM_CLOSED)
        elif not ended or any(name.startswith(b":") for name, _ in headers):
            self._stream_fault(stream_id, ErrorCode.PROTOCOL_ERROR)
        else:
            stream.remote_open = False
            self._listener.received(stream_id, b"", ended=True)

    def _refuse_late(self, stream_id: int) -> None:
        """A frame for a stream that is over: on its way when we ended it, or a mistake of the peer."""
        if stream_id > self._last_id or stream_id % 2 == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a frame for a stream that was never opened")
        self._spend("frames for streams that are over")
        if stream_id in self._streams:
            self._stream_fault(stream_id, ErrorCode.STREAM_CLOSED)
        else:
            self._outbox.control(frames.reset(stream_id, ErrorCode.STREAM_CLOSED))

    def _on_window_update(self, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE has another size")
        increment = frames.unpack_word(payload)[0] & frames.MAX_WINDOW
        code = ErrorCode.FLOW_CONTROL_ERROR if increment else ErrorCode.PROTOCOL_ERROR
        if stream_id == 0:
            if not self._outbox.grow_connection(increment) or not increment:
                raise ConnectionFault(code, "the connection's window cannot grow like this")
        elif stream_id > self._last_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE for an idle stream")
        elif stream_id in self._streams and (not self._outbox.grow_stream(stream_id, increment) or not increment):
            self._stream_fault(stream_id, code)
            return
        if self._outbox.waits:
            self._outbox.flush()
        else:
            self._spend("window updates")

    def _on_reset(self, stream_id: int, payload: bytes) -> None:
        if stream_id == 0 or stream_id > self._last_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "RST_STREAM for an idle stream")
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM has another size")
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        if not stream.received and not self._empty.spend(self._at):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many streams that are opened to be reset")
        self._drop(stream_id)
        self._listener.ended(stream_id, frames.unpack_word(payload)[0])

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id != 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & frames.ACK:
            if payload:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "an acknowledgement with content")
            return
        if len(payload) % 6:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS has another size")
        self._settings_seen = True
        for name, value in frames.iter_settings(payload):
            self._set(name, value)
        self._outbox.control(frames.SETTINGS_ACK)
        self._outbox.flush()

    def _set(self, name: int, value: int) -> None:
        if name == Setting.INITIAL_WINDOW_SIZE:
            if value > frames.MAX_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the initial window is too large")
            if not self._outbox.set_initial_window(value):
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "a window is too large")
        elif name == Setting.MAX_FRAME_SIZE:
            if not frames.DEFAULT_FRAME_BYTES <= value <= frames.MAX_FRAME_BYTES:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the frame size is out of range")
            self._outbox.set_max_frame(value)
        elif name == Setting.ENABLE_PUSH and value not in (0, 1):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "ENABLE_PUSH is 0 or 1")
        # The table size bounds our encoder, which uses no table; the other settings bind clients.

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id != 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "PING has another size")
        if not flags & frames.ACK:
            self._outbox.control(frames.frame(frames.PING, frames.ACK, 0, payload))

    # ---- what we send

    def send_headers(self, stream_id: int, block: bytes) -> None:
        """An encoded header block that does not end the stream."""
        self._outbox.headers(stream_id, block)

    def send_data(self, stream_id: int, data: bytes) -> None:
        """A piece of the answer; waits for room in the windows if it must."""
        self._outbox.data(stream_id, data)
        if self._outbox.unsent > self._limits.unsent_bytes:
            self._fail(ErrorCode.ENHANCE_YOUR_CALM, "answers are not taken")

    def send_end(self, stream_id: int, block: bytes) -> None:
        """Trailers; the stream is finished with them."""
        self._outbox.end(stream_id, block)

    def send_reset(self, stream_id: int, code: ErrorCode) -> None:
        """End a stream at once. The listener is not told: it asked for it."""
        if stream_id in self._streams:
            self._drop(stream_id)
            self._outbox.control(frames.reset(stream_id, code))

    def announce_end(self) -> None:
        """First step of an orderly end: no promise yet which streams are taken (RFC 9113, 6.8)."""
        self._outbox.control(frames.go_away(frames.MAX_WINDOW, ErrorCode.NO_ERROR))

    def refuse_new(self) -> None:
        """Second step: streams up to now are served, later ones refused."""
        self._going_away = True
        self._outbox.control(frames.go_away(self._last_id, ErrorCode.NO_ERROR))

    def _on_finished(self, stream_id: int) -> None:
        stream = self._streams.pop(stream_id)
        if stream.remote_open:  # the answer is complete, the rest of the request is not wanted (RFC 9113, 8.1)
            self._outbox.control(frames.reset(stream_id, ErrorCode.NO_ERROR))

    # ---- ends

    def _stream_fault(self, stream_id: int, code: ErrorCode) -> None:
        known = stream_id in self._streams
        self._drop(stream_id)
        self._outbox.control(frames.reset(stream_id, code))
        if known:
            self._listener.ended(stream_id, code)

    def _drop(self, stream_id: int) -> None:
        self._streams.pop(stream_id, None)
        self._outbox.drop(stream_id)

    def _fail(self, code: ErrorCode, reason: str) -> None:
        self.fault = reason
        self._outbox.control(frames.go_away(self._last_id, code, reason.encode()))
        self.lost(code)

    def lost(self, code: int = ErrorCode.CANCEL) -> None:
        """The connection is gone: every stream is over."""
        self.closing = True
        self._buffer = b""
        for stream_id in tuple(self._streams):
            self._drop(stream_id)
            self._listener.ended(stream_id, code)


def _unpadded(payload: bytes) -> bytes:
    if not payload or payload[0] >= len(payload):
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "padding is longer than its frame")
    return payload[1 : len(payload) - payload[0]]
