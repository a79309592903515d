"""gRPC messages out of the DATA of a stream, wherever frames end."""

import struct
from typing import Final

from aibrix_extproc.http2.frames import Piece
from aibrix_extproc.http2.status import CallError, Status

NO_MESSAGE: Final = -1
SMALL_PIECE_BYTES: Final = 1024
PREFIX: Final = struct.Struct(">BL")  # compressed or not, size

Message = bytes | tuple[Piece, ...]
"""A whole message, or the pieces of a large one."""


def length_prefixed(message: bytes) -> bytes:
    """An uncompressed message with gRPC's prefix."""
    return PREFIX.pack(0, len(message)) + message


def check_prefix(compressed: int, size: int, limit: int) -> None:
    """Refuse a message once its prefix is known, before its bytes arrive. Raises CallError."""
    if compressed > 1:
        raise CallError(Status.INTERNAL, "a message with unknown flags")
    if compressed:
        raise CallError(Status.UNIMPLEMENTED, "compressed messages are not supported")
    if size > limit:
        raise CallError(Status.RESOURCE_EXHAUSTED, f"message of {size} bytes is larger than {limit}")


class Deframer:
    """The unfinished message of one call. It takes as much memory as has arrived, not as much as was announced.

    It keeps pieces, because an array that grows is copied again and again: 220 KB in frames of 16 KB would cost three
    times as much.
    """

    __slots__ = ("_limit", "_pieces", "_prefix", "_received", "_size", "_was_unfinished", "_whole_limit")

    def __init__(self, limit: int, whole_limit: int) -> None:
        self._limit = limit  # of a message
        self._whole_limit = whole_limit  # a larger message stays in pieces
        self._prefix = b""  # an unfinished one
        self._pieces: list[bytes | bytearray] = []
        self._size = NO_MESSAGE
        self._received = 0
        self._was_unfinished = False  # this same message was unfinished at the last check

    @property
    def unfinished(self) -> bool:
        """Whether a part of a message is here."""
        return self._size != NO_MESSAGE or bool(self._prefix)

    @property
    def buffered(self) -> int:
        """Bytes of the unfinished message."""
        return len(self._prefix) + self._received

    @property
    def missing(self) -> int:
        """Bytes of the message that are still to come; 0 between messages."""
        return self._size - self._received if self._size != NO_MESSAGE else 0

    def check_progress(self) -> bool:
        """Whether the message is unfinished and was so at the last check."""
        stalled = self._was_unfinished and self.unfinished
        self._was_unfinished = self.unfinished
        return stalled

    def next(self, data: bytes | bytearray, start: int, end: int) -> tuple[Message | None, int]:
        """The next message that `data[start:end]` completes, if any, and the offset behind it. Raises CallError."""
        while start < end:
            if self._size == NO_MESSAGE:
                piece = data[start : min(end, start + PREFIX.size - len(self._prefix))]
                start += len(piece)
                self._prefix += piece
                if len(self._prefix) < PREFIX.size:
                    break
                self._begin()
            else:
                after = min(end, start + self._size - self._received)
                self.add(data[start:after])
                start = after
            if self._received == self._size:
                return self._take(), start
        return None, start

    def _begin(self) -> None:
        compressed, size = PREFIX.unpack(self._prefix)
        check_prefix(compressed, size, self._limit)
        self._prefix, self._size, self._was_unfinished = b"", size, False

    def _take(self) -> Message:
        message = tuple(self._pieces) if self._size > self._whole_limit else b"".join(self._pieces)
        self._pieces, self._size, self._received = [], NO_MESSAGE, 0
        return message

    def add(self, piece: bytes | bytearray) -> None:
        """Add a piece of the message, no longer than what is missing."""
        self._received += len(piece)
        if len(piece) < SMALL_PIECE_BYTES and self._pieces and isinstance(self._pieces[-1], bytearray):
            self._pieces[-1] += piece  # a piece of its own would take more memory than its content
        else:
            self._pieces.append(bytearray(piece) if len(piece) < SMALL_PIECE_BYTES else piece)
