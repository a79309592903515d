"""The streams of one connection, by id: open ones, those that we reset, and the range of ids that the peer has used."""

from aibrix_extproc.http2 import frames
from aibrix_extproc.http2.frames import ErrorCode
from aibrix_extproc.http2.limits import ConnectionLimits
from aibrix_extproc.http2.send_queue import SendQueue
from aibrix_extproc.http2.streams import ResetStreams, Stream


class StreamTable:
    """Opens and closes streams. It has the connection's send queue, whose unsent bytes belong to streams."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self._max_open = limits.concurrent_streams
        self._receive_window = limits.stream_window
        self.open: dict[int, Stream] = {}
        self.reset_by_us = ResetStreams(limits.stream_window)
        self.send_queue = SendQueue(self._on_finished)
        self.last_id = 0  # the highest that the peer has used
        self.promised_id: int | None = None  # the last stream that GOAWAY promised to serve

    def is_idle(self, stream_id: int) -> bool:
        """Whether the peer has not opened this stream yet, or cannot."""
        return stream_id > self.last_id or stream_id % 2 == 0

    @property
    def refuses_new(self) -> bool:
        """Whether no further stream may be opened."""
        return self.promised_id is not None or len(self.open) >= self._max_open

    def add(self, stream_id: int, content_length: int | None, *, ended: bool) -> Stream:
        """Open a stream; `ended` says that the peer sends no body."""
        stream = Stream(stream_id, self._receive_window, self.send_queue.initial_window)
        if content_length is not None:
            stream.expected_bytes = content_length
        stream.remote_open = not ended
        self.open[stream_id] = stream
        return stream

    def remove(self, stream: Stream) -> None:
        """Close a stream, and drop what it has to send."""
        del self.open[stream.id]
        stream.is_open = False
        self.send_queue.drop(stream)

    def reset(self, stream_id: int, code: ErrorCode, *, ended: bool) -> None:
        """Send RST_STREAM. Unless the peer has `ended` the stream, more of it may be on its way."""
        self.send_queue.control(frames.reset(stream_id, code))
        if not ended:
            self.reset_by_us.add(stream_id)

    def fail(self, stream: Stream, code: ErrorCode) -> None:
        """A stream error: reset the stream and report it to the receiver."""
        self.remove(stream)
        self.reset(stream.id, code, ended=not stream.remote_open)
        stream.notify_closed(code)

    def _on_finished(self, stream: Stream) -> None:
        remote_open = stream.remote_open
        self.remove(stream)
        if remote_open:  # the answer is complete, the rest of the request is not needed (RFC 9113, 8.1)
            self.reset(stream.id, ErrorCode.NO_ERROR, ended=False)

    def close_all(self, code: int) -> None:
        """The connection is gone: close every stream and report it to the receivers."""
        for stream in tuple(self.open.values()):
            if stream.is_open:  # the end of one stream may have ended another
                self.remove(stream)
                stream.notify_closed(code)
