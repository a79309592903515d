"""The sending half of an HTTP/2 connection: frames in order, kept back where the peer's windows have no room."""

from collections import deque
from collections.abc import Callable

from aibrix_extproc.adapters.extproc.lean import frames

_END = frames.END_HEADERS | frames.END_STREAM


class _Unsent:
    """What of one stream waits for room: pieces of data, then perhaps its trailers."""

    __slots__ = ("pieces", "trailers", "window")

    def __init__(self, window: int) -> None:
        self.window = window
        self.pieces: deque[bytes] = deque()
        self.trailers: bytes | None = None


class Outbox:
    """Frames to write, and the flow control that the peer imposes."""

    def __init__(self, on_finished: Callable[[int], None]) -> None:
        self._on_finished = on_finished  # a stream's trailers have gone out
        self._out: list[bytes] = []
        self._streams: dict[int, _Unsent] = {}
        self._waiting: dict[int, None] = {}  # streams with something unsent, in the order they got it
        self._window = frames.DEFAULT_WINDOW
        self._initial_window = frames.DEFAULT_WINDOW
        self._max_frame = frames.DEFAULT_FRAME_BYTES
        self.unsent = 0  # bytes that wait for room

    @property
    def waits(self) -> bool:
        """Whether anything waits for the peer to make room."""
        return bool(self._waiting)

    def take(self) -> bytes:
        """Everything that may be written now."""
        if not self._out:
            return b""
        out, self._out = self._out, []
        return out[0] if len(out) == 1 else b"".join(out)

    def control(self, frame: bytes) -> None:
        """A frame that no window holds back."""
        self._out.append(frame)

    def open(self, stream_id: int) -> None:
        """A stream that may be answered."""
        self._streams[stream_id] = _Unsent(self._initial_window)

    def drop(self, stream_id: int) -> None:
        """A stream that gets no further answer."""
        stream = self._streams.pop(stream_id, None)
        if stream is not None and stream.pieces:
            self.unsent -= sum(map(len, stream.pieces))
        self._waiting.pop(stream_id, None)

    def headers(self, stream_id: int, block: bytes) -> None:
        """An encoded header block that does not end the stream."""
        if stream_id in self._streams:
            self._out.append(frames.frame(frames.HEADERS, frames.END_HEADERS, stream_id, block))

    def data(self, stream_id: int, data: bytes) -> None:
        """A piece of the answer."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        size = len(data)
        if not stream.pieces and size <= min(stream.window, self._window, self._max_frame):
            stream.window -= size
            self._window -= size
            self._out.append(frames.frame(frames.DATA, 0, stream_id, data))
            return
        stream.pieces.append(data)
        self.unsent += size
        self._waiting[stream_id] = None
        self.flush()

    def end(self, stream_id: int, block: bytes) -> None:
        """Trailers; the stream is finished with them."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        stream.trailers = block
        if not stream.pieces:
            self._finish(stream_id, stream)

    def flush(self) -> None:
        """Send what has room now."""
        for stream_id in tuple(self._waiting):
            stream = self._streams[stream_id]
            self._send_pieces(stream_id, stream)
            if not stream.pieces:
                self._waiting.pop(stream_id, None)
                if stream.trailers is not None:
                    self._finish(stream_id, stream)
            if self._window <= 0:
                return

    def _send_pieces(self, stream_id: int, stream: _Unsent) -> None:
        while stream.pieces:
            room = min(stream.window, self._window, self._max_frame)
            if room <= 0:
                return
            piece = stream.pieces[0]
            sent, rest = piece[:room], piece[room:]
            self._out.append(frames.frame(frames.DATA, 0, stream_id, sent))
            stream.window -= len(sent)
            self._window -= len(sent)
            self.unsent -= len(sent)
            if rest:
                stream.pieces[0] = rest
            else:
                stream.pieces.popleft()

    def _finish(self, stream_id: int, stream: _Unsent) -> None:
        assert stream.trailers is not None
        self._out.append(frames.frame(frames.HEADERS, _END, stream_id, stream.trailers))
        self.drop(stream_id)
        self._on_finished(stream_id)

    # ---- what the peer allows; False where it breaks the protocol's bound

    def grow_connection(self, increment: int) -> bool:
        """WINDOW_UPDATE of the connection."""
        self._window += increment
        return self._window <= frames.MAX_WINDOW

    def grow_stream(self, stream_id: int, increment: int) -> bool:
        """WINDOW_UPDATE of a stream."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return True
        stream.window += increment
        return stream.window <= frames.MAX_WINDOW

    def set_initial_window(self, size: int) -> bool:
        """SETTINGS_INITIAL_WINDOW_SIZE, which also moves the windows of open streams (RFC 9113, 6.9.2)."""
        change, self._initial_window = size - self._initial_window, size
        for stream in self._streams.values():
            stream.window += change
        return all(stream.window <= frames.MAX_WINDOW for stream in self._streams.values())

    def set_max_frame(self, size: int) -> None:
        """SETTINGS_MAX_FRAME_SIZE."""
        self._max_frame = size
