"""The peer's side of HTTP/2 for tests, made with hyperframe and hpack so that it shares nothing with what it tests."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import hpack
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
ECHO: Final = "/test/Echo"
REQUEST: Final = (
    (":method", "POST"),
    (":scheme", "http"),
    (":path", ECHO),
    (":authority", "ext-proc"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
)
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR = 0, 1, 2, 3
STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CALM = 5, 6, 7, 8, 9, 11


def settings(values: dict[int, int] | None = None, *, ack: bool = False) -> bytes:
    """A SETTINGS frame."""
    frame = SettingsFrame(0, settings=values or {}, flags=["ACK"] if ack else [])
    return bytes(frame.serialize())


CLIENT_PREFACE: Final = PREFACE + settings()


def block(headers: Iterable[tuple[str, str]] = REQUEST) -> bytes:
    """A header block that needs no table of the peer."""
    return bytes(hpack.Encoder().encode([hpack.NeverIndexedHeaderTuple(*one) for one in headers]))


def request(
    stream_id: int, *, end: bool = False, without: tuple[str, ...] = (), flags: tuple[str, ...] = (), **changed: str
) -> bytes:
    """HEADERS of a gRPC call; `changed` by name, pseudo headers without their colon, dashes as underscores."""
    named = dict(REQUEST)
    for name, value in changed.items():
        pseudo = f":{name}"
        named[pseudo if pseudo in named else name.replace("_", "-")] = value
    kept = tuple((name, value) for name, value in named.items() if name not in without)
    return headers(stream_id, block(kept), end=end, flags=flags)


def headers(stream_id: int, encoded: bytes, *, end: bool = False, flags: tuple[str, ...] = ()) -> bytes:
    """HEADERS with any block."""
    return bytes(
        HeadersFrame(stream_id, encoded, flags=["END_HEADERS", *(["END_STREAM"] if end else []), *flags]).serialize()
    )


def begun(stream_id: int, encoded: bytes) -> bytes:
    """HEADERS that CONTINUATION frames follow."""
    return bytes(HeadersFrame(stream_id, encoded).serialize())


def continued(stream_id: int, encoded: bytes, *, last: bool) -> bytes:
    """CONTINUATION."""
    return bytes(ContinuationFrame(stream_id, encoded, flags=["END_HEADERS"] if last else []).serialize())


def data(stream_id: int, payload: bytes = b"", *, end: bool = False, padding: int | None = None) -> bytes:
    """DATA."""
    flags = [*(["END_STREAM"] if end else []), *(["PADDED"] if padding is not None else [])]
    return bytes(DataFrame(stream_id, payload, pad_length=padding or 0, flags=flags).serialize())


def reset(stream_id: int, code: int = CANCEL) -> bytes:
    """RST_STREAM."""
    return bytes(RstStreamFrame(stream_id, error_code=code).serialize())


def ping(payload: bytes = b"12345678", *, ack: bool = False) -> bytes:
    """PING."""
    return bytes(PingFrame(0, payload, flags=["ACK"] if ack else []).serialize())


def window_update(stream_id: int, increment: int) -> bytes:
    """WINDOW_UPDATE."""
    return raw(8, 0, stream_id, increment.to_bytes(4, "big"))


def go_away(last_stream_id: int = 0) -> bytes:
    """GOAWAY."""
    return bytes(GoAwayFrame(0, last_stream_id).serialize())


def raw(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """Any frame at all."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream_id.to_bytes(4, "big") + payload


def message(payload: bytes = b"", *, compressed: int = 0) -> bytes:
    """A gRPC message with its prefix."""
    return bytes((compressed,)) + len(payload).to_bytes(4, "big") + payload


def split(stream: bytes) -> Iterator[Frame]:
    """The frames that were written."""
    view = memoryview(stream)
    while view:
        frame, size = Frame.parse_frame_header(view[:9])
        frame.parse_body(view[9 : 9 + size])
        yield frame
        view = view[9 + size :]


@dataclass(frozen=True, slots=True)
class Answer:
    """What one stream got."""

    headers: dict[str, str]
    messages: tuple[bytes, ...]
    trailers: dict[str, str]
    reset: int | None


class Reader:
    """Puts the frames of a server together again."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self._decoder = hpack.Decoder()
        self._decoded: dict[int, list[dict[str, str]]] = {}
        self._rest = b""

    def shrink_table(self, size: int) -> None:
        """Have a table of this size; what needs more cannot be read."""
        self._decoder.header_table.maxsize = size

    def feed(self, stream: bytes) -> list[Frame]:
        """The frames that are complete now."""
        stream = self._rest + stream
        end = 0
        while len(stream) - end >= 9 and len(stream) - end >= 9 + int.from_bytes(stream[end : end + 3], "big"):
            end += 9 + int.from_bytes(stream[end : end + 3], "big")
        found = list(split(stream[:end]))
        self._rest = stream[end:]
        for frame in found:
            if isinstance(frame, HeadersFrame):
                self._decoded.setdefault(frame.stream_id, []).append(
                    {str(name): str(value) for name, value in self._decoder.decode(frame.data)}
                )
        self.frames += found
        return found

    @property
    def goaways(self) -> list[GoAwayFrame]:
        """All GOAWAYs."""
        return [frame for frame in self.frames if isinstance(frame, GoAwayFrame)]

    def goaway(self) -> int | None:
        """The code of the last GOAWAY, None without one."""
        return self.goaways[-1].error_code if self.goaways else None

    def body(self, stream_id: int) -> bytes:
        """All DATA of a stream."""
        return b"".join(
            frame.data for frame in self.frames if isinstance(frame, DataFrame) and frame.stream_id == stream_id
        )

    def reset_of(self, stream_id: int) -> int | None:
        """The code that a stream was reset with."""
        codes = [
            one.error_code for one in self.frames if isinstance(one, RstStreamFrame) and one.stream_id == stream_id
        ]
        return codes[0] if codes else None

    def ended(self, stream_id: int) -> bool:
        """Whether a stream's answer is complete."""
        return any(frame.stream_id == stream_id and "END_STREAM" in frame.flags for frame in self.frames)

    def over(self, stream_id: int) -> bool:
        """Whether a stream was answered or reset."""
        return self.ended(stream_id) or self.reset_of(stream_id) is not None

    def answer(self, stream_id: int) -> Answer:
        """Everything that one stream got."""
        blocks = self._decoded.get(stream_id, [])
        body, messages = self.body(stream_id), []
        while len(body) >= 5 and len(body) >= 5 + int.from_bytes(body[1:5], "big"):
            size = int.from_bytes(body[1:5], "big")
            messages.append(body[5 : 5 + size])
            body = body[5 + size :]
        trailers = blocks[-1] if self.ended(stream_id) and blocks else {}
        return Answer(blocks[0] if blocks else {}, tuple(messages), trailers, self.reset_of(stream_id))

    def granted(self, stream_id: int) -> int:
        """The sum of a stream's WINDOW_UPDATEs."""
        return sum(
            one.window_increment
            for one in self.frames
            if isinstance(one, WindowUpdateFrame) and one.stream_id == stream_id
        )
