"""gRPC statuses, and the header blocks of answers. The blocks use no dynamic table, so they are encoded once."""

from enum import IntEnum
from typing import Final
from urllib.parse import quote


class Status(IntEnum):
    """The gRPC status codes that this server sends."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


class CallError(Exception):
    """Ends a call with a status other than OK."""

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def _literal(name: bytes, value: bytes) -> bytes:
    """A header field without indexing (RFC 7541, 6.2.2), without Huffman coding."""
    return b"\x00" + _sized(name) + _sized(value)


def _sized(text: bytes) -> bytes:
    if len(text) < 127:
        return bytes((len(text),)) + text
    rest, out = len(text) - 127, bytearray(b"\x7f")
    while rest >= 128:
        out.append(rest % 128 + 128)
        rest //= 128
    out.append(rest)
    return bytes(out) + text


HEAD_BLOCK: Final = b"\x88\x0f\x10" + _sized(b"application/grpc")  # :status 200, then content-type by its index
OK_BLOCK: Final = _literal(b"grpc-status", b"0")
NOT_POST_BLOCK: Final = _literal(b":status", b"405") + _literal(b"allow", b"POST")
NOT_GRPC_BLOCK: Final = _literal(b":status", b"415")
MAX_MESSAGE_CHARACTERS: Final = 1024


def status_block(status: Status, message: str) -> bytes:
    """Trailers with a status. The message is percent-encoded, as gRPC requires, and cut at 1024 characters."""
    if status is Status.OK:
        return OK_BLOCK
    encoded = quote(message[:MAX_MESSAGE_CHARACTERS], safe=" !#$&'()*+,/:;=?@[]~").encode()
    return _literal(b"grpc-status", str(int(status)).encode()) + _literal(b"grpc-message", encoded)
