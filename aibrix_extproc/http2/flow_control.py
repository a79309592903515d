"""Flow control: the windows in which the peer may send, and its updates of those in which we may."""

from aibrix_extproc.http2 import frames
from aibrix_extproc.http2.errors import ProtocolError
from aibrix_extproc.http2.flood_guard import FloodGuard
from aibrix_extproc.http2.frames import ErrorCode
from aibrix_extproc.http2.limits import KIB, ConnectionLimits
from aibrix_extproc.http2.send_queue import SendQueue
from aibrix_extproc.http2.streams import Stream


class FlowControl:
    """The windows of one connection and of its streams."""

    def __init__(self, limits: ConnectionLimits, send_queue: SendQueue, guard: FloodGuard) -> None:
        self._stream_window = limits.stream_window
        self._connection_window = limits.connection_window
        self._send_queue = send_queue
        self._guard = guard
        self._window = limits.connection_window  # what the peer may still send on all streams together

    def take(self, size: int) -> None:
        """Take DATA out of the connection's window. Raises ProtocolError if it does not fit.

        The peer gets this room back at once: the windows of the streams limit what is buffered.
        """
        self._window -= size
        if self._window < 0:
            raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window is exceeded")
        if self._window < self._connection_window // 2:
            self._send_queue.control(frames.window_update(0, self._connection_window - self._window))
            self._window = self._connection_window

    def refill(self, stream: Stream) -> None:
        """Give the peer more room on a stream once half of it is used, unless the stream is paused."""
        window = self._stream_window
        if stream.receive_window < window // 2 and not stream.paused:
            self._send_queue.control(frames.window_update(stream.id, window - stream.receive_window))
            stream.receive_window = window

    def window_update(self, stream_id: int, stream: Stream | None, payload: bytes) -> ErrorCode | None:
        """A WINDOW_UPDATE of the connection (stream 0) or of a stream that is open, or was. Raises ProtocolError.

        Returns the code of a stream error.
        """
        if len(payload) != frames.WORD_BYTES:
            raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE has another size")
        increment = frames.unpack_word(payload)[0] & frames.MAX_WINDOW
        code = ErrorCode.FLOW_CONTROL_ERROR if increment else ErrorCode.PROTOCOL_ERROR
        queue = self._send_queue
        unsent, within = queue.unsent, True
        if stream_id == 0:
            if not queue.grow_connection(increment) or not increment:
                raise ProtocolError(code, "the connection's window cannot grow like this")
        elif stream is not None:
            within = queue.grow_stream(stream, increment) and increment > 0
        if unsent and within:
            queue.flush()
        if unsent - queue.unsent < KIB:
            self._guard.spend_idle_frame("window updates")
        return None if within else code
