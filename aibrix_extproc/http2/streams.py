"""What a connection keeps of a stream: of an open one, and of one that we reset."""

from collections import deque
from typing import Final, Protocol

from aibrix_extproc.http2.errors import ProtocolError
from aibrix_extproc.http2.frames import ErrorCode
from aibrix_extproc.http2.limits import KIB

NO_LENGTH: Final = -1
MAX_RESET_STREAMS: Final = 4096


class StreamReceiver(Protocol):
    """Takes what the peer sends on one stream. It may send answers from inside of these calls."""

    def received(self, data: bytes, start: int, end: int, *, ended: bool) -> None:
        """`data[start:end]` is a piece of the request's body; it is empty only if it ends the body.

        Offsets, so that nothing is copied before the receiver knows where a message begins.
        """

    def stream_closed(self, code: int) -> None:
        """The stream was closed before both sides had finished it."""


class Stream:
    """An open stream."""

    __slots__ = (
        "answered",
        "expected_bytes",
        "got_data",
        "id",
        "is_open",
        "paused",
        "receive_window",
        "receiver",
        "remote_open",
        "send_window",
        "trailers",
        "unsent",
    )

    def __init__(self, stream_id: int, receive_window: int, send_window: int) -> None:
        self.id = stream_id
        self.receiver: StreamReceiver | None = None
        self.is_open = True  # the connection has it
        self.remote_open = True  # the peer may still send
        self.got_data = False
        self.answered = False
        self.paused = False  # its receiver is busy, so the peer gets no more room
        self.expected_bytes = NO_LENGTH  # of the body, by content-length
        self.receive_window = receive_window  # what the peer may still send
        self.send_window = send_window  # what we may still send; a change of settings can make it negative
        self.unsent: deque[memoryview] | None = None  # pieces of the answer that wait for room
        self.trailers: bytes | None = None  # of the answer, behind them

    def count(self, size: int, *, ended: bool) -> bool:
        """Count bytes of the body. False if its length contradicts content-length (RFC 9113, 8.1.1)."""
        if self.expected_bytes == NO_LENGTH:
            return True
        self.expected_bytes -= size
        return self.expected_bytes == 0 if ended else self.expected_bytes >= 0

    def notify_closed(self, code: int = ErrorCode.CANCEL) -> None:
        """Report to the receiver that the stream is closed, once."""
        receiver, self.receiver = self.receiver, None
        if receiver is not None:
            receiver.stream_closed(code)


class ResetStreams:
    """Streams that we reset. The peer may have sent more on them before it knew, which is no error."""

    def __init__(self, window: int) -> None:
        self._window = window  # a peer cannot have sent more than this
        self._bytes_left: dict[int, int] = {}

    def __contains__(self, stream_id: int) -> bool:
        return stream_id in self._bytes_left

    def add(self, stream_id: int) -> None:
        """Remember a stream, and forget the oldest if there are too many."""
        if len(self._bytes_left) >= MAX_RESET_STREAMS:
            del self._bytes_left[next(iter(self._bytes_left))]
        self._bytes_left[stream_id] = self._window

    def ended_by_peer(self, stream_id: int) -> bool:
        """The peer has ended a stream as well. False if it is none of these."""
        return self._bytes_left.pop(stream_id, None) is not None

    def late_data(self, stream_id: int, size: int, *, ended: bool) -> None:
        """Count DATA that came late. Raises ProtocolError for more than the peer can have sent before it knew."""
        left = self._bytes_left[stream_id] - max(size, KIB)  # small frames are work as well
        if left < 0:
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "a stream that was ended goes on")
        self._bytes_left[stream_id] = left
        if ended:
            self.ended_by_peer(stream_id)
