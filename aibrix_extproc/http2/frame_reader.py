"""Splits the bytes of a connection into frames, wherever reads end, in turns of bounded length."""

from collections.abc import Callable
from typing import Final

from aibrix_extproc.http2 import frames
from aibrix_extproc.http2.errors import ProtocolError, describe_other_protocol
from aibrix_extproc.http2.frames import ErrorCode
from aibrix_extproc.http2.limits import ConnectionLimits

OnFrame = Callable[[int, int, int, bytes, int, int], None]
"""Takes kind, flags, stream id, and the payload as data, start, end; offsets, so that most is copied only once."""

JOINED_BYTES: Final = 4096  # DATA frames of at least this size are joined if they follow each other


class FrameReader:
    """Calls `on_frame` for each frame of one connection."""

    def __init__(self, limits: ConnectionLimits, on_frame: OnFrame) -> None:
        self._largest = limits.frame_bytes
        self._per_turn = limits.frames_per_turn
        self._on_frame = on_frame
        self._preface_seen = False
        self._partial = bytearray()  # an unfinished frame
        self._wanted = frames.HEADER_BYTES  # its size as far as it is known
        self._was_partial = False  # this same frame was unfinished at the last check
        self._unread = b""  # bytes for the next turn
        self._stopped = False
        self._turn_ends = False  # behind the current frame, because reading stopped or others shall have their turn

    @property
    def has_unread(self) -> bool:
        """Whether the turn ended before everything was read."""
        return bool(self._unread)

    def stop(self) -> None:
        """Read no more, and drop what is here."""
        self._stopped = self._turn_ends = True
        self._partial, self._unread = bytearray(), b""

    def check_progress(self) -> bool:
        """Whether the same frame is unfinished now and was at the last check."""
        stalled = self._was_partial and bool(self._partial)
        self._was_partial = bool(self._partial)
        return stalled

    def end_turn(self) -> None:
        """Leave the rest for the next turn, because the current frame took as long as many others."""
        self._turn_ends = True

    def feed(self, data: bytes) -> None:
        """Read bytes. Raises ProtocolError."""
        start = 0
        if self._unread:
            data, self._unread = self._unread + data, b""
        elif not self._preface_seen:
            data = b"".join((self._partial, data))
            start = self._read_preface(data)
        elif self._partial:
            start = self._complete(data)
            if self._partial or self._stopped:
                return
        self._read(data, start)

    def _read_preface(self, data: bytes) -> int:
        """The offset of the first frame; the end of the data if the preface is not complete."""
        size = len(frames.PREFACE)
        if not frames.PREFACE.startswith(data[:size]):
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, describe_other_protocol(data))
        self._preface_seen = len(data) >= size
        self._partial = bytearray(b"" if self._preface_seen else data)
        return min(size, len(data))

    def _read(self, data: bytes, start: int) -> None:
        end = len(data)
        on_frame, largest = self._on_frame, self._largest
        for _ in range(self._per_turn):
            if end - start < frames.HEADER_BYTES:
                self._wanted = frames.HEADER_BYTES
                break
            high, low, kind, flags, stream_id = frames.unpack_head(data, start)
            length = (high << 16) + low
            if length > largest:
                raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "a frame is too large")
            payload = start + frames.HEADER_BYTES
            if payload + length > end:
                self._wanted = frames.HEADER_BYTES + length
                break
            start = payload + length
            if kind == frames.DATA and length >= JOINED_BYTES and not flags and end - start > JOINED_BYTES:
                pieces, start = _run(data, payload, start, stream_id, largest)
                body = b"".join(pieces)
                on_frame(kind, flags, stream_id & frames.MAX_WINDOW, body, 0, len(body))
            else:
                on_frame(kind, flags, stream_id & frames.MAX_WINDOW, data, payload, start)
            if self._turn_ends:
                self._postpone(data, start)
                return
        else:
            self._postpone(data, start)
            return
        if start < end:
            self._partial += memoryview(data)[start:]
            self._was_partial = False

    def _postpone(self, data: bytes, start: int) -> None:
        self._turn_ends = False
        if not self._stopped:
            self._unread = data[start:]

    def _complete(self, data: bytes) -> int:
        """Complete the unfinished frame, and copy nothing but it. Returns the offset behind it."""
        partial, start = self._partial, 0
        while start < len(data):
            after = start + self._wanted - len(partial)
            partial += memoryview(data)[start:after]
            start = min(after, len(data))
            if len(partial) == self._wanted == frames.HEADER_BYTES:
                self._wanted += int.from_bytes(partial[:3], "big")
                if self._wanted > frames.HEADER_BYTES + self._largest:
                    raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "a frame is too large")
            if len(partial) == self._wanted:
                self._partial = bytearray()
                self._read(bytes(partial), 0)
                break
        return start


def _run(data: bytes, payload: int, start: int, stream_id: int, largest: int) -> tuple[list[memoryview], int]:
    """The payloads of a large DATA frame and of those that follow it on the same stream, and the offset behind them.

    A long prompt comes as a dozen of such frames in one read. Joined, they pass flow control and deframer once.
    """
    view, end = memoryview(data), len(data)
    pieces = [view[payload:start]]
    while end - start > JOINED_BYTES:
        high, low, kind, flags, other_id = frames.unpack_head(data, start)
        length = (high << 16) + low
        after = start + frames.HEADER_BYTES + length
        if (
            kind != frames.DATA
            or flags
            or other_id != stream_id
            or not JOINED_BYTES <= length <= largest
            or after > end
        ):
            break
        pieces.append(view[start + frames.HEADER_BYTES : after])
        start = after
    return pieces, start
