"""Parses a large message of Envoy without its body, which stays in the pieces in which it came.

The protobuf library would copy the body three times. Here it parses only the few bytes around the body, which is never
copied.
"""

from typing import Final

from google.protobuf.message import DecodeError

from aibrix_extproc.adapters.extproc._generated.external_processor_pb2 import HttpBody, ProcessingRequest
from aibrix_extproc.rope import Piece, Rope, rope_of

MAX_AROUND_BYTES: Final = 1024 * 1024  # of a message beside its body; Envoy sends less
MAX_FIELDS: Final = 256  # beside the body; each costs time
_BODIES: Final = frozenset(
    ProcessingRequest.DESCRIPTOR.fields_by_name[name].number for name in ("request_body", "response_body")
)
_BODY: Final = HttpBody.DESCRIPTOR.fields_by_name["body"].number
_MAX_VARINT_BYTES: Final = 10
_FIXED: Final = {1: 8, 5: 4}  # wire type -> size


class LargeMessage:
    """A parsed message, and the body that was taken out of it."""

    __slots__ = ("body", "message")

    def __init__(self, message: ProcessingRequest, body: Rope) -> None:
        self.message = message
        self.body = body


def parse_large_message(message: Rope) -> LargeMessage:
    """Take the body out and parse the rest. Raises DecodeError for what is no message with at most one body."""
    cursor = _Cursor(message)
    around = bytearray()
    body: Rope | None = None
    while cursor.at < message.size:
        field, tag, length = cursor.field()
        if field in _BODIES and length is not None:
            if body is not None:
                raise DecodeError("two bodies")
            inner, body = _take_body(cursor, cursor.at + length)
            around += tag + _varint(len(inner)) + inner
        else:
            around += tag + cursor.value(tag, length)
        if len(around) > MAX_AROUND_BYTES:
            raise DecodeError("too much beside the body")
    return LargeMessage(ProcessingRequest.FromString(bytes(around)), body or rope_of(()))


def _take_body(cursor: "_Cursor", end: int) -> tuple[bytes, Rope]:
    inner = bytearray()
    body = rope_of(())
    if end > cursor.size:
        raise DecodeError("the message is cut short")
    while cursor.at < end:
        field, tag, length = cursor.field()
        if field == _BODY and length is not None:
            body = cursor.take(length)
        else:
            inner += tag + cursor.value(tag, length)
        if len(inner) > MAX_AROUND_BYTES:
            raise DecodeError("too much beside the body")
    if cursor.at != end:
        raise DecodeError("the body is cut short")
    return bytes(inner), body


class _Cursor:
    """Reads a rope from front to back."""

    def __init__(self, rope: Rope) -> None:
        self._pieces = rope.pieces
        self._index = 0
        self._inside = 0  # the piece
        self._fields = 0
        self.at = 0
        self.size = rope.size

    def field(self) -> tuple[int, bytes, int | None]:
        """The next field: its number, its tag as encoded, and its length, None for a wire type without one."""
        self._fields += 1
        if self._fields > MAX_FIELDS:
            raise DecodeError("too many fields beside the body")
        tag, encoded = self._varint()
        length = self._varint()[0] if tag & 7 == 2 else None
        return tag >> 3, encoded, length

    def value(self, tag: bytes, length: int | None) -> bytes:
        """The rest of a field, as encoded."""
        if length is not None:
            if length > MAX_AROUND_BYTES:
                raise DecodeError("too much beside the body")
            return _varint(length) + self.take(length).joined()
        kind = tag[0] & 7
        if kind == 0:
            return self._varint()[1]
        if kind not in _FIXED:
            raise DecodeError("unknown wire type")
        return self.take(_FIXED[kind]).joined()

    def take(self, length: int) -> Rope:
        """The next bytes."""
        if length > self.size - self.at:
            raise DecodeError("the message is cut short")
        self.at += length
        taken: list[Piece] = []
        while length:
            piece = self._pieces[self._index]
            stop = min(len(piece), self._inside + length)
            whole = self._inside == 0 and stop == len(piece)
            taken.append(piece if whole else memoryview(piece)[self._inside : stop])
            length -= stop - self._inside
            self._inside = stop
            if stop == len(piece):
                self._index, self._inside = self._index + 1, 0
        return rope_of(taken)

    def _varint(self) -> tuple[int, bytes]:
        value, encoded = 0, bytearray()
        while len(encoded) < _MAX_VARINT_BYTES:
            byte = self.take(1).joined()[0]
            encoded.append(byte)
            value |= (byte & 0x7F) << (7 * (len(encoded) - 1))
            if byte < 0x80:
                return value, bytes(encoded)
        raise DecodeError("a number is too long")


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def field_head(number: int, length: int) -> bytes:
    """The tag and the length of a field, which stand before its content."""
    return _varint(number << 3 | 2) + _varint(length)
