"""What a connection keeps of one open stream, both directions."""

from collections import deque
from typing import Final, Protocol

from aibrix_extproc.http2.errors import ProtocolError
from aibrix_extproc.http2.frames import ErrorCode
from aibrix_extproc.http2.limits import KIB

NO_LENGTH: Final = -1
MAX_ABANDONED: Final = 4096


class Receiver(Protocol):
    """Who is told what the peer says on one stream. May answer from inside these calls."""

    def received(self, data: bytes, start: int, end: int, *, ended: bool) -> None:
        """`data[start:end]` is a piece of the request's body; an empty one only if it ends it.

        Offsets, so that nothing is copied before somebody knows where a message begins.
        """

    def reset_by_peer(self, code: int) -> None:
        """The stream is over before both sides had finished it."""


class Stream:
    """An open stream."""

    __slots__ = (
        "answered",
        "expected_bytes",
        "heard",
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
        self.receiver: Receiver | None = None
        self.is_open = True  # the connection knows it
        self.remote_open = True  # the peer may still send
        self.heard = False  # something of the request's body
        self.answered = False
        self.paused = False  # its receiver is busy: the peer gets no more room
        self.expected_bytes = NO_LENGTH  # of the body, where content-length tells
        self.receive_window = receive_window  # what the peer may still send
        self.send_window = send_window  # what we may; below zero after a change of settings
        self.unsent: deque[memoryview] | None = None  # pieces of the answer that wait for room
        self.trailers: bytes | None = None  # waiting behind them

    def count(self, size: int, *, ended: bool) -> bool:
        """Whether the body is still as long as content-length said (RFC 9113, 8.1.1)."""
        if self.expected_bytes == NO_LENGTH:
            return True
        self.expected_bytes -= size
        return self.expected_bytes == 0 if ended else self.expected_bytes >= 0

    def notify_reset(self, code: int = ErrorCode.CANCEL) -> None:
        """Tell the receiver that it is over."""
        receiver, self.receiver = self.receiver, None
        if receiver is not None:
            receiver.reset_by_peer(code)


class ResetStreams:
    """Streams that we ended first, and what the peer may have on its way on each: that is no mistake of it."""

    def __init__(self, window: int) -> None:
        self._window = window  # more than that it could not send without leave
        self._left: dict[int, int] = {}

    def __contains__(self, stream_id: int) -> bool:
        return stream_id in self._left

    def add(self, stream_id: int) -> None:
        """One more; the oldest is forgotten if there are too many."""
        if len(self._left) >= MAX_ABANDONED:
            del self._left[next(iter(self._left))]
        self._left[stream_id] = self._window

    def over(self, stream_id: int) -> bool:
        """The peer has ended it, too; False if it is none of these."""
        return self._left.pop(stream_id, None) is not None

    def data(self, stream_id: int, size: int, *, ended: bool) -> None:
        """DATA came late. Raises ProtocolError when there is no end to it."""
        left = self._left[stream_id] - max(size, KIB)  # small frames are work, too
        if left < 0:
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "a stream that was ended goes on")
        self._left[stream_id] = left
        if ended:
            self.over(stream_id)
