"""The server's side of one HTTP/2 connection, without I/O: bytes in, calls to a listener, bytes out.

Strict and bounded: what RFC 9113 calls a connection error ends the connection with GOAWAY and the right code, a stream
error resets the stream. No exception leaves `receive`, whatever the bytes. Header blocks are decoded by hpack; answers
are handed in as encoded blocks, since a gRPC server's answers are constants.
"""

from collections import deque
from typing import Final, Protocol

import hpack

from aibrix_extproc.adapters.extproc.lean import frames
from aibrix_extproc.adapters.extproc.lean.frames import ErrorCode, Setting
from aibrix_extproc.adapters.extproc.lean.limits import Budget, Limits

HeaderList = list[tuple[bytes, bytes]]


MAX_REMEMBERED_BLOCKS: Final = 64


class Listener(Protocol):
    """Who is told what a peer has said. May answer from inside these calls."""

    def opened(self, stream_id: int, headers: HeaderList, *, ended: bool) -> None:
        """A stream with its request headers."""

    def received(self, stream_id: int, data: bytes, *, ended: bool) -> None:
        """A piece of the request's body; an empty one only if it ends it."""

    def ended(self, stream_id: int, code: int) -> None:
        """The stream is over before it was finished by both sides."""


class ConnectionFault(Exception):
    """The connection must end; never leaves the connection."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class _Stream:
    __slots__ = ("in_window", "out_window", "received", "remote_open", "unsent")

    def __init__(self, in_window: int, out_window: int) -> None:
        self.in_window = in_window
        self.out_window = out_window
        self.remote_open = True
        self.received = False  # anything of a body
        self.unsent: deque[tuple[bytes, bool]] | None = None  # payload or encoded trailers, whether it is trailers


class Connection:
    """One connection. Call `receive`, then write what `take` gives; `closing` says when to hang up after that."""

    def __init__(self, listener: Listener, limits: Limits) -> None:
        self._listener = listener
        self._limits = limits
        self._decoder = hpack.Decoder(limits.header_list_bytes)
        self._streams: dict[int, _Stream] = {}
        self._out: list[bytes] = []
        self._buffer = b""
        self._blocks: dict[bytes, HeaderList] = {}
        self._preface_seen = False
        self._settings_seen = False
        self._last_id = 0
        self._in_window = limits.connection_window
        self._out_window = frames.DEFAULT_WINDOW
        self._initial_out_window = frames.DEFAULT_WINDOW
        self._max_out_frame = frames.DEFAULT_FRAME_BYTES
        self._block: list[bytes] | None = None  # an unfinished header block
        self._block_head = (0, 0)  # its stream and flags
        self._unsent = 0
        self._waiting: dict[int, None] = {}  # streams with something unsent, in the order they got it
        self._going_away = False
        self._idle = Budget(limits.idle_frames, limits.idle_frames_per_second)
        self._empty = Budget(limits.empty_streams, limits.empty_streams_per_second)
        self._at = 0.0
        self.closing = False
        self.fault: str | None = None
        self._out.append(
            frames.settings(
                {
                    Setting.MAX_CONCURRENT_STREAMS: limits.concurrent_streams,
                    Setting.INITIAL_WINDOW_SIZE: limits.stream_window,
                    Setting.MAX_FRAME_SIZE: limits.frame_bytes,
                    Setting.MAX_HEADER_LIST_SIZE: limits.header_list_bytes,
                }
            )
        )
        self._out.append(frames.window_update(0, limits.connection_window - frames.DEFAULT_WINDOW))

    @property
    def streams(self) -> int:
        """Streams that are open."""
        return len(self._streams)

    def take(self) -> bytes:
        """What is to be written now."""
        if not self._out:
            return b""
        out, self._out = self._out, []
        return out[0] if len(out) == 1 else b"".join(out)

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

    def _on_rare(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if kind == frames.CONTINUATION:
            self._on_continuation(flags, stream_id, payload)
            return
        if not self._idle.spend(self._at):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many control frames")
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
        self._in_window -= size
        if self._in_window < 0:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window is exceeded")
        if self._in_window < self._limits.connection_window // 2:
            self._out.append(frames.window_update(0, self._limits.connection_window - self._in_window))
            self._in_window = self._limits.connection_window
        stream = self._streams.get(stream_id)
        if stream is None or not stream.remote_open:
            self._refuse_late(stream_id)
            return
        ended = bool(flags & frames.END_STREAM)
        stream.in_window -= size
        if stream.in_window < 0:
            self._stream_fault(stream_id, ErrorCode.FLOW_CONTROL_ERROR)
            return
        if not payload and not ended:
            if not self._idle.spend(self._at):
                raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many empty frames")
            return
        if not ended and stream.in_window < self._limits.stream_window // 2:
            self._out.append(frames.window_update(stream_id, self._limits.stream_window - stream.in_window))
            stream.in_window = self._limits.stream_window
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
        if len(block) > self._limits.header_block_bytes:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a header block is too large")
        try:
            headers = self._decoded(block)
        except hpack.OversizedHeaderListError as error:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a header list is too large") from error
        except (hpack.HPACKError, IndexError, ValueError, RecursionError, OverflowError, UnicodeError) as error:
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "a header block cannot be read") from error
        ended = bool(flags & frames.END_STREAM)
        stream = self._streams.get(stream_id)
        if stream is not None:
            self._on_trailers(stream_id, stream, headers, ended=ended)
        elif stream_id <= self._last_id:
            self._refuse_late(stream_id)
        else:
            self._open(stream_id, headers, ended=ended)

    def _decoded(self, block: bytes) -> HeaderList:
        """Decode, or remember: a block of nothing but indexed fields means the same until the table changes."""
        known = self._blocks.get(block)
        if known is not None:
            return known
        headers: HeaderList = [(bytes(name), bytes(value)) for name, value in self._decoder.decode(block, raw=True)]
        if all(0x80 < octet < 0xFF for octet in block):
            if len(self._blocks) < MAX_REMEMBERED_BLOCKS:
                self._blocks[block] = headers
        else:
            self._blocks.clear()
        return headers

    def _open(self, stream_id: int, headers: HeaderList, *, ended: bool) -> None:
        self._last_id = stream_id
        if self._going_away or len(self._streams) >= self._limits.concurrent_streams:
            self._out.append(frames.reset(stream_id, ErrorCode.REFUSED_STREAM))
            return
        if not _well_formed(headers):
            self._out.append(frames.reset(stream_id, ErrorCode.PROTOCOL_ERROR))
            return
        stream = _Stream(self._limits.stream_window, self._initial_out_window)
        stream.remote_open = not ended
        self._streams[stream_id] = stream
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
        if not self._idle.spend(self._at):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many frames for streams that are over")
        if stream_id in self._streams:
            self._stream_fault(stream_id, ErrorCode.STREAM_CLOSED)
        else:
            self._out.append(frames.reset(stream_id, ErrorCode.STREAM_CLOSED))

    def _on_window_update(self, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE has another size")
        increment = frames.unpack_word(payload)[0] & frames.MAX_WINDOW
        if stream_id == 0:
            self._out_window += increment
            if increment == 0 or self._out_window > frames.MAX_WINDOW:
                code = ErrorCode.FLOW_CONTROL_ERROR if increment else ErrorCode.PROTOCOL_ERROR
                raise ConnectionFault(code, "the connection's window cannot grow like this")
        else:
            stream = self._streams.get(stream_id)
            if stream is None:
                if stream_id > self._last_id:
                    raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE for an idle stream")
                return
            stream.out_window += increment
            if increment == 0 or stream.out_window > frames.MAX_WINDOW:
                code = ErrorCode.FLOW_CONTROL_ERROR if increment else ErrorCode.PROTOCOL_ERROR
                self._stream_fault(stream_id, code)
                return
        if self._waiting:
            self._flush()
        elif not self._idle.spend(self._at):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many window updates")

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
        self._out.append(frames.SETTINGS_ACK)
        self._flush()

    def _set(self, name: int, value: int) -> None:
        if name == Setting.INITIAL_WINDOW_SIZE:
            if value > frames.MAX_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the initial window is too large")
            change, self._initial_out_window = value - self._initial_out_window, value
            for stream in self._streams.values():
                stream.out_window += change
                if stream.out_window > frames.MAX_WINDOW:
                    raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "a window is too large")
        elif name == Setting.MAX_FRAME_SIZE:
            if not frames.DEFAULT_FRAME_BYTES <= value <= frames.MAX_FRAME_BYTES:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the frame size is out of range")
            self._max_out_frame = value
        elif name == Setting.ENABLE_PUSH and value not in (0, 1):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "ENABLE_PUSH is 0 or 1")
        # The table size bounds our encoder, which uses no table; the other settings bind clients.

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id != 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "PING has another size")
        if not flags & frames.ACK:
            self._out.append(frames.frame(frames.PING, frames.ACK, 0, payload))

    # ---- what we send

    def send_headers(self, stream_id: int, block: bytes) -> None:
        """An encoded header block that does not end the stream."""
        if stream_id in self._streams:
            self._out.append(frames.frame(frames.HEADERS, frames.END_HEADERS, stream_id, block))

    def send_data(self, stream_id: int, data: bytes) -> None:
        """A piece of the answer; waits for room in the windows if it must."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        size = len(data)
        if (
            stream.unsent is None
            and size <= stream.out_window
            and size <= self._out_window
            and size <= self._max_out_frame
        ):
            stream.out_window -= size
            self._out_window -= size
            self._out.append(frames.frame(frames.DATA, 0, stream_id, data))
            return
        self._queue(stream_id, stream, data, trailers=False)

    def send_end(self, stream_id: int, block: bytes) -> None:
        """Trailers; the stream is finished with them."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        if stream.unsent is None:
            self._end(stream_id, stream, block)
        else:
            self._queue(stream_id, stream, block, trailers=True)

    def send_reset(self, stream_id: int, code: ErrorCode) -> None:
        """End a stream at once. The listener is not told: it asked for it."""
        if stream_id in self._streams:
            self._drop(stream_id)
            self._out.append(frames.reset(stream_id, code))

    def announce_end(self) -> None:
        """First step of an orderly end: no promise yet which streams are taken (RFC 9113, 6.8)."""
        self._out.append(frames.go_away(frames.MAX_WINDOW, ErrorCode.NO_ERROR))

    def refuse_new(self) -> None:
        """Second step: streams up to now are served, later ones refused."""
        self._going_away = True
        self._out.append(frames.go_away(self._last_id, ErrorCode.NO_ERROR))

    def _queue(self, stream_id: int, stream: _Stream, data: bytes, *, trailers: bool) -> None:
        if stream.unsent is None:
            stream.unsent = deque()
        stream.unsent.append((data, trailers))
        self._unsent += len(data)
        self._waiting[stream_id] = None
        if self._unsent > self._limits.unsent_bytes:
            self._fail(ErrorCode.ENHANCE_YOUR_CALM, "answers are not taken")
        else:
            self._flush()

    def _flush(self) -> None:
        for stream_id in tuple(self._waiting):
            stream = self._streams[stream_id]
            if not self._send_waiting(stream_id, stream) and self._out_window <= 0:
                return

    def _send_waiting(self, stream_id: int, stream: _Stream) -> bool:
        """Send what the windows allow; True when nothing of the stream waits any more."""
        unsent = stream.unsent
        while unsent:
            data, trailers = unsent[0]
            if trailers:
                del self._waiting[stream_id]
                self._unsent -= len(data)
                self._end(stream_id, stream, data)
                return True
            room = min(stream.out_window, self._out_window, self._max_out_frame)
            if room <= 0 < len(data):
                return False
            piece, rest = data[:room], data[room:]
            self._out.append(frames.frame(frames.DATA, 0, stream_id, piece))
            stream.out_window -= len(piece)
            self._out_window -= len(piece)
            self._unsent -= len(piece)
            if rest:
                unsent[0] = (rest, False)
            else:
                unsent.popleft()
        stream.unsent = None
        self._waiting.pop(stream_id, None)
        return True

    def _end(self, stream_id: int, stream: _Stream, block: bytes) -> None:
        flags = frames.END_HEADERS | frames.END_STREAM
        self._out.append(frames.frame(frames.HEADERS, flags, stream_id, block))
        del self._streams[stream_id]
        if stream.remote_open:  # the answer is complete, the rest of the request is not wanted (RFC 9113, 8.1)
            self._out.append(frames.reset(stream_id, ErrorCode.NO_ERROR))

    # ---- ends

    def _stream_fault(self, stream_id: int, code: ErrorCode) -> None:
        known = stream_id in self._streams
        self._drop(stream_id)
        self._out.append(frames.reset(stream_id, code))
        if known:
            self._listener.ended(stream_id, code)

    def _drop(self, stream_id: int) -> None:
        stream = self._streams.pop(stream_id, None)
        if stream is not None and stream.unsent:
            self._unsent -= sum(len(data) for data, _ in stream.unsent)
        self._waiting.pop(stream_id, None)

    def _fail(self, code: ErrorCode, reason: str) -> None:
        self.fault = reason
        self._out.append(frames.go_away(self._last_id, code, reason.encode()))
        self.lost(code)

    def lost(self, code: int = ErrorCode.CANCEL) -> None:
        """The connection is gone: every stream is over."""
        self.closing = True
        self._buffer = b""
        streams, self._streams = tuple(self._streams), {}
        self._waiting.clear()
        for stream_id in streams:
            self._listener.ended(stream_id, code)


def _unpadded(payload: bytes) -> bytes:
    if not payload or payload[0] >= len(payload):
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "padding is longer than its frame")
    return payload[1 : len(payload) - payload[0]]


def _well_formed(headers: HeaderList) -> bool:
    """RFC 9113, 8.2 and 8.3: pseudo headers first, each once, the three that a request needs; lower-case names."""
    seen: set[bytes] = set()
    regular = False
    for name, value in headers:
        if name.startswith(b":"):
            if regular or name in seen or name not in _PSEUDO:
                return False
            seen.add(name)
        else:
            regular = True
            if not name or name != name.lower() or name in _FORBIDDEN or (name == b"te" and value != b"trailers"):
                return False
    return seen >= _NEEDED and all(value for name, value in headers if name == b":path")


_PSEUDO: Final = frozenset({b":method", b":scheme", b":path", b":authority"})
_NEEDED: Final = frozenset({b":method", b":scheme", b":path"})
_FORBIDDEN: Final = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})
