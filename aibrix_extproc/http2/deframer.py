"""gRPC messages out of the pieces of a stream, wherever frames end."""

import struct
from typing import Final

from aibrix_extproc.http2.status import CallError, Status
from aibrix_extproc.rope import LARGE_BYTES, Rope, rope_of

NO_MESSAGE: Final = -1
SMALL_PIECE_BYTES: Final = 1024
PREFIX: Final = struct.Struct(">BL")  # compressed or not, size


def length_prefixed(message: bytes) -> bytes:
    """A message with gRPC's prefix, uncompressed."""
    return PREFIX.pack(0, len(message)) + message


def check_prefix(compressed: int, size: int, most: int) -> None:
    """Refuse a message as soon as its prefix is known, not when it has arrived. Raises CallError."""
    if compressed > 1:
        raise CallError(Status.INTERNAL, "a message with unknown flags")
    if compressed:
        raise CallError(Status.UNIMPLEMENTED, "compressed messages are not supported")
    if size > most:
        raise CallError(Status.RESOURCE_EXHAUSTED, f"message of {size} bytes is larger than {most}")


class Deframer:
    """The unfinished message of one call: pieces of it that take as much memory as has arrived, not as was announced.

    An array that grows would be copied again and again: 220 KB in frames of 16 KB cost three times as much.
    """

    __slots__ = ("_have", "_most", "_pieces", "_prefix", "_seen", "_size")

    def __init__(self, most: int) -> None:
        self._most = most
        self._prefix = b""  # the beginning of one
        self._pieces: list[bytes | bytearray] = []
        self._size = NO_MESSAGE
        self._have = 0
        self._seen = False  # it was looked at

    @property
    def unfinished(self) -> bool:
        """Whether something of a message is there."""
        return self._size != NO_MESSAGE or bool(self._prefix)

    @property
    def buffered(self) -> int:
        """Bytes of what is unfinished."""
        return len(self._prefix) + self._have

    @property
    def missing(self) -> int:
        """Bytes of the message that are still to come; 0 between messages."""
        return self._size - self._have if self._size != NO_MESSAGE else 0

    def check_progress(self) -> bool:
        """Whether the message that is unfinished was so at the last check."""
        stale = self._seen and self.unfinished
        self._seen = self.unfinished
        return stale

    def next(self, data: bytes | bytearray, start: int, end: int) -> tuple[bytes | Rope | None, int]:
        """The next message that `data[start:end]` completes, if any, and where to go on. Raises CallError.

        A large one stays in pieces: to join 50 MB takes 20 ms.
        """
        while start < end:
            if self._size == NO_MESSAGE:
                piece = data[start : min(end, start + PREFIX.size - len(self._prefix))]
                start += len(piece)
                self._prefix += piece
                if len(self._prefix) < PREFIX.size:
                    break
                self._begin()
            else:
                after = min(end, start + self._size - self._have)
                self.add(data[start:after])
                start = after
            if self._have == self._size:
                whole = rope_of(self._pieces) if self._size > LARGE_BYTES else b"".join(self._pieces)
                self._pieces, self._size, self._have = [], NO_MESSAGE, 0
                return whole, start
        return None, start

    def _begin(self) -> None:
        compressed, size = PREFIX.unpack(self._prefix)
        check_prefix(compressed, size, self._most)
        self._prefix, self._size, self._seen = b"", size, False

    def add(self, piece: bytes | bytearray) -> None:
        """More of the message, no more than is missing."""
        self._have += len(piece)
        if len(piece) < SMALL_PIECE_BYTES and self._pieces and isinstance(self._pieces[-1], bytearray):
            self._pieces[-1] += piece  # a piece of its own would take more memory than its content
        else:
            self._pieces.append(bytearray(piece) if len(piece) < SMALL_PIECE_BYTES else piece)
