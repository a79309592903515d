"""Frames out of whatever pieces the bytes of a connection come in, in turns of bounded length."""

from collections.abc import Callable
from typing import Final

from aibrix_extproc.http2 import frames
from aibrix_extproc.http2.errors import ProtocolError, describe_other_protocol
from aibrix_extproc.http2.frames import ErrorCode
from aibrix_extproc.http2.limits import ConnectionLimits

OnFrame = Callable[[int, int, int, bytes, int, int], None]
"""Kind, flags, stream, and where the payload is: data, start, end. Offsets, since most of it is copied only once."""

JOINED_BYTES: Final = 4096  # DATA frames of this size or more are handed over together, if they follow each other


class FrameReader:
    """Cuts one connection's bytes."""

    def __init__(self, limits: ConnectionLimits, on_frame: OnFrame) -> None:
        self._largest = limits.frame_bytes
        self._per_turn = limits.frames_per_turn
        self._on_frame = on_frame
        self._preface_seen = False
        self._rest = bytearray()  # an unfinished frame
        self._wanted = frames.HEADER_BYTES  # its size, as far as that is known
        self._seen = False  # it was looked at
        self._unread = b""  # left for the next turn
        self._stopped = False
        self._turn_ends = False  # behind this frame, for one of these reasons: stopped, or others shall have their turn

    @property
    def behind(self) -> bool:
        """Whether the turn ended before everything was read."""
        return bool(self._unread)

    def stop(self) -> None:
        """Read no more, not even what is there."""
        self._stopped = self._turn_ends = True
        self._rest, self._unread = bytearray(), b""

    def check_progress(self) -> bool:
        """Whether the frame that is unfinished was so at the last check."""
        stale = self._seen and bool(self._rest)
        self._seen = bool(self._rest)
        return stale

    def end_turn(self) -> None:
        """Leave the rest for the next turn: this frame took as long as many others."""
        self._turn_ends = True

    def feed(self, data: bytes) -> None:
        """Take bytes. Raises ProtocolError."""
        start = 0
        if self._unread:
            data, self._unread = self._unread + data, b""
        elif not self._preface_seen:
            data = b"".join((self._rest, data))
            start = self._read_preface(data)
        elif self._rest:
            start = self._complete(data)
            if self._rest or self._stopped:
                return
        self._read(data, start)

    def _read_preface(self, data: bytes) -> int:
        """Where frames begin; behind everything if that is not known yet."""
        size = len(frames.PREFACE)
        if not frames.PREFACE.startswith(data[:size]):
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, describe_other_protocol(data))
        self._preface_seen = len(data) >= size
        self._rest = bytearray(b"" if self._preface_seen else data)
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
            self._rest += memoryview(data)[start:]
            self._seen = False

    def _postpone(self, data: bytes, start: int) -> None:
        self._turn_ends = False
        if not self._stopped:
            self._unread = data[start:]

    def _complete(self, data: bytes) -> int:
        """Finish the frame that the last chunk left unfinished, without copying more than that; where to go on."""
        rest, start = self._rest, 0
        while start < len(data):
            after = start + self._wanted - len(rest)
            rest += memoryview(data)[start:after]
            start = min(after, len(data))
            if len(rest) == self._wanted == frames.HEADER_BYTES:
                self._wanted += int.from_bytes(rest[:3], "big")
                if self._wanted > frames.HEADER_BYTES + self._largest:
                    raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "a frame is too large")
            if len(rest) == self._wanted:
                self._rest = bytearray()
                self._read(bytes(rest), 0)
                break
        return start


def _run(data: bytes, payload: int, start: int, stream_id: int, largest: int) -> tuple[list[memoryview], int]:
    """The payloads of a large DATA frame and those like it that come right behind it, and where they end.

    A long prompt comes as a dozen of them in one read; together they take one way through flow control and deframer.
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
