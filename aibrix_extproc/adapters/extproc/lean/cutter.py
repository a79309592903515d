"""gRPC messages out of the pieces of a stream, wherever frames end."""

import struct
from typing import Final

from aibrix_extproc.adapters.extproc.lean.status import CallError, Status

PREFIX: Final = struct.Struct(">BL")  # compressed or not, size


def framed(message: bytes) -> bytes:
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


class Cutter:
    """The unfinished message of one call.

    It is an array that grows with what has arrived, not with what was announced.
    """

    __slots__ = ("_message", "_missing", "_most", "_prefix")

    def __init__(self, most: int) -> None:
        self._most = most
        self._prefix = b""  # the beginning of one
        self._message: bytearray | None = None
        self._missing = 0

    @property
    def unfinished(self) -> bool:
        """Whether something of a message is there."""
        return self._message is not None or bool(self._prefix)

    @property
    def held(self) -> int:
        """Bytes of what is unfinished."""
        return len(self._prefix) if self._message is None else len(self._message)

    def next(self, data: bytes | bytearray, start: int, end: int) -> tuple[bytes | None, int]:
        """The next message that `data[start:end]` completes, if any, and where to go on. Raises CallError."""
        while start < end:
            if self._message is None:
                piece = data[start : min(end, start + PREFIX.size - len(self._prefix))]
                start += len(piece)
                self._prefix += piece
                if len(self._prefix) < PREFIX.size:
                    break
                self._begin()
            else:
                after = min(end, start + self._missing)
                with memoryview(data) as view, view[start:after] as piece_of_message:
                    self._message += piece_of_message
                self._missing -= after - start
                start = after
            if self._message is not None and not self._missing:
                whole, self._message = self._message, None
                return bytes(whole), start
        return None, start

    def _begin(self) -> None:
        compressed, size = PREFIX.unpack(self._prefix)
        check_prefix(compressed, size, self._most)
        self._prefix, self._message, self._missing = b"", bytearray(), size
