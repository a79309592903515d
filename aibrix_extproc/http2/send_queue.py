"""The sending half of an HTTP/2 connection: frames in order, held back while the peer's windows have no room."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from aibrix_extproc.http2 import frames
from aibrix_extproc.http2.frames import Piece
from aibrix_extproc.http2.limits import KIB, MIB
from aibrix_extproc.http2.streams import Stream

LEAST_PROGRESS_BYTES: Final = KIB
RELEASED_PER_TURN: Final = 2 * MIB  # of bytes that waited; a peer may give room for 50 MB at once
_END: Final = frames.END_HEADERS | frames.END_STREAM


class SendQueue:
    """Frames to send, and the windows that the peer sets. `on_finished` is called once a stream's trailers are sent."""

    def __init__(self, on_finished: Callable[[Stream], None]) -> None:
        self._on_finished = on_finished
        self._out: list[bytes] = []
        self._ready: dict[Stream, None] = {}  # streams with unsent bytes and room of their own, oldest first
        self._window = frames.DEFAULT_WINDOW
        self._max_frame = frames.DEFAULT_FRAME_BYTES
        self.initial_window = frames.DEFAULT_WINDOW
        self.unsent = 0  # bytes of all streams that wait for room
        self._released = 0  # bytes that waited and were sent since the last check
        self._due = 0  # how many must be released until the next check
        self._left_of_turn = RELEASED_PER_TURN

    def take(self) -> bytes:
        """The bytes to write in this turn."""
        if self.has_more:
            self.flush()
        self._left_of_turn = RELEASED_PER_TURN
        out = self._out
        if not out:
            return b""
        self._out = []
        return out[0] if len(out) == 1 else b"".join(out)

    @property
    def has_more(self) -> bool:
        """Whether unsent bytes have room in the windows, so that another turn must take them."""
        return bool(self._ready) and self._window > 0

    def control(self, frame: bytes) -> None:
        """Send a frame that needs no window."""
        self._out.append(frame)

    def headers(self, stream: Stream, block: bytes) -> None:
        """Send an encoded header block that does not end the stream."""
        if stream.is_open:
            stream.answered = True
            self._out.append(frames.frame(frames.HEADERS, frames.END_HEADERS, stream.id, block))

    def data(self, stream: Stream, data: Piece) -> None:
        """Send a piece of the answer, or keep it until there is room."""
        if not stream.is_open:
            return
        size = len(data)
        if (
            size <= self._max_frame
            and size <= stream.send_window
            and size <= self._window
            and not stream.unsent
        ):  # fmt: skip
            stream.send_window -= size
            self._window -= size
            self._out.append(frames.frame(frames.DATA, 0, stream.id, data))
            return
        if stream.unsent is None:
            stream.unsent = deque()
        stream.unsent.append(memoryview(data))
        self.unsent += size
        self._make_ready(stream)
        self.flush()

    def end(self, stream: Stream, block: bytes) -> None:
        """Send trailers behind everything else; they finish the stream."""
        if not stream.is_open:
            return
        stream.trailers = block
        if not stream.unsent:
            self._finish(stream)

    def drop(self, stream: Stream) -> None:
        """Drop what is unsent of a stream."""
        if stream.unsent:
            self.unsent -= sum(map(len, stream.unsent))
            stream.unsent = None
            self._ready.pop(stream, None)

    def check_progress(self) -> bool:
        """Whether the peer took less than a kilobyte of what was unsent at the last check."""
        stalled = bool(self.unsent) and self._released < self._due
        self._released, self._due = 0, min(self.unsent, LEAST_PROGRESS_BYTES)
        return stalled

    def _make_ready(self, stream: Stream) -> None:
        if stream.unsent and stream.send_window > 0:
            self._ready[stream] = None

    def flush(self) -> None:
        """Send what has room, as much as one turn may.

        The cost depends on what is sent, not on how many streams wait for their own windows.
        """
        while self._ready and self._window > 0 and self._left_of_turn > 0:
            stream = next(iter(self._ready))
            self._send_pieces(stream)
            if not stream.unsent:
                del self._ready[stream]
                if stream.trailers is not None:
                    self._finish(stream)
            elif stream.send_window <= 0:
                del self._ready[stream]

    def _send_pieces(self, stream: Stream) -> None:
        pieces = stream.unsent
        while pieces:
            room = min(stream.send_window, self._window, self._max_frame)
            if room <= 0 or self._left_of_turn <= 0:
                return
            piece = pieces[0]
            if len(piece) > room:
                pieces[0] = piece[room:]
                piece = piece[:room]
            else:
                pieces.popleft()
            self._out.append(frames.frame(frames.DATA, 0, stream.id, piece))
            stream.send_window -= len(piece)
            self._window -= len(piece)
            self.unsent -= len(piece)
            self._released += len(piece)
            self._left_of_turn -= len(piece)

    def _finish(self, stream: Stream) -> None:
        assert stream.trailers is not None
        self._out.append(frames.frame(frames.HEADERS, _END, stream.id, stream.trailers))
        self._on_finished(stream)

    # ---- changes of the peer's windows; False if a window exceeds its maximum

    def grow_connection(self, increment: int) -> bool:
        """WINDOW_UPDATE of the connection."""
        self._window += increment
        return self._window <= frames.MAX_WINDOW

    def grow_stream(self, stream: Stream, increment: int) -> bool:
        """WINDOW_UPDATE of a stream."""
        stream.send_window += increment
        self._make_ready(stream)
        return stream.send_window <= frames.MAX_WINDOW

    def set_initial_window(self, size: int, streams: Iterable[Stream]) -> bool:
        """SETTINGS_INITIAL_WINDOW_SIZE, which also moves the windows of open streams (RFC 9113, 6.9.2)."""
        change, self.initial_window = size - self.initial_window, size
        within = True
        if change:
            for stream in streams:
                within = self.grow_stream(stream, change) and within
                if stream.send_window <= 0:
                    self._ready.pop(stream, None)
        return within

    def set_max_frame(self, size: int) -> None:
        """SETTINGS_MAX_FRAME_SIZE."""
        self._max_frame = size
