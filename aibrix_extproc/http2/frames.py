"""HTTP/2 frames as bytes (RFC 9113): types, flags, error codes, and the frames that a server sends."""

import struct
from enum import IntEnum
from typing import Final

Piece = bytes | bytearray | memoryview
"""Bytes of a message or of a frame's payload."""

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_BYTES: Final = 9
PRIORITY_BYTES: Final = 5
WORD_BYTES: Final = 4  # an error code, a window increment
MAX_WINDOW: Final = 2**31 - 1
DEFAULT_WINDOW: Final = 65_535
DEFAULT_FRAME_BYTES: Final = 16_384
MAX_FRAME_BYTES: Final = 2**24 - 1

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
WITH_PRIORITY: Final = 0x20


class Setting(IntEnum):
    """Names of SETTINGS entries."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class ErrorCode(IntEnum):
    """Reasons for ending a stream or a connection."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


_HEAD: Final = struct.Struct(">BHBBL")
_PAIR: Final = struct.Struct(">LL")
_SETTING: Final = struct.Struct(">HL")
_WORD: Final = struct.Struct(">L")

unpack_head = _HEAD.unpack_from  # length's high byte, its low half, type, flags, stream id with the reserved bit
unpack_word = _WORD.unpack_from
iter_settings = _SETTING.iter_unpack


def frame(kind: int, flags: int, stream_id: int, payload: Piece = b"") -> bytes:
    """One frame."""
    size = len(payload)
    return _HEAD.pack(size >> 16, size & 0xFFFF, kind, flags, stream_id) + payload


def settings(values: dict[Setting, int]) -> bytes:
    """A SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(name, value) for name, value in values.items()))


SETTINGS_ACK: Final = frame(SETTINGS, ACK, 0)


def window_update(stream_id: int, increment: int) -> bytes:
    """WINDOW_UPDATE: allow the peer to send more."""
    return frame(WINDOW_UPDATE, 0, stream_id, _WORD.pack(increment))


def reset(stream_id: int, code: ErrorCode) -> bytes:
    """RST_STREAM: end one stream."""
    return frame(RST_STREAM, 0, stream_id, _WORD.pack(code))


def go_away(last_stream_id: int, code: ErrorCode, reason: bytes = b"") -> bytes:
    """GOAWAY: accept no further streams."""
    return frame(GOAWAY, 0, 0, _PAIR.pack(last_stream_id, code) + reason)
