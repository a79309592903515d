"""The server's side of one HTTP/2 connection, without I/O: bytes in, calls to a listener, bytes out.

A connection error of RFC 9113 ends the connection with GOAWAY and the right code, a stream error resets the stream.
`receive` raises nothing, whatever the bytes. Header blocks of answers come in encoded, because they are constants.
"""

from aibrix_extproc.http2 import frames
from aibrix_extproc.http2.control_frames import server_preface
from aibrix_extproc.http2.errors import ProtocolError
from aibrix_extproc.http2.frames import ErrorCode, Piece
from aibrix_extproc.http2.inbound import Inbound, Listener
from aibrix_extproc.http2.limits import ConnectionLimits
from aibrix_extproc.http2.stream_table import StreamTable
from aibrix_extproc.http2.streams import Stream


class Connection:
    """One connection. Call `receive`, then write what `take` returns, then close if `closing` is true."""

    def __init__(self, listener: Listener, limits: ConnectionLimits) -> None:
        self._max_unsent_bytes = limits.unsent_bytes
        self._table = StreamTable(limits)
        self._send_queue = self._table.send_queue
        self._inbound = Inbound(listener, limits, self._table)
        self._reader = self._inbound.reader
        self.closing = False
        self.close_reason: str | None = None  # what the peer did, if it is the reason
        self._send_queue.control(server_preface(limits))

    @property
    def streams(self) -> int:
        """How many streams are open."""
        return len(self._table.open)

    def open_streams(self) -> tuple[Stream, ...]:
        """The streams that are open now."""
        return tuple(self._table.open.values())

    @property
    def handshake_done(self) -> bool:
        """Whether the peer has sent its SETTINGS."""
        return self._inbound.settings_seen

    # ---- receiving

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes, however they are split; `now` is in monotonic seconds."""
        if self.closing:
            return
        try:
            self._inbound.receive(data, now)
        except ProtocolError as error:
            self._fail(error.code, str(error))

    @property
    def has_unread(self) -> bool:
        """Whether a turn ended before everything was read. Call `receive` again after others had their turn."""
        return self._reader.has_unread

    def end_turn(self) -> None:
        """Read no further in this turn, because the current frame took as long as many others."""
        self._reader.end_turn()

    def resume(self, stream: Stream) -> None:
        """The receiver of a paused stream takes more."""
        self._inbound.resume(stream)

    def check_progress(self) -> None:
        """End the connection if something is unfinished that was so at the last check."""
        if self.closing:
            return
        part = self._inbound.stalled_part()
        if part is not None:
            self._fail(ErrorCode.ENHANCE_YOUR_CALM, f"{part} does not come to its end")
        elif self._send_queue.check_progress():
            self._fail(ErrorCode.ENHANCE_YOUR_CALM, "answers are not taken")

    # ---- sending

    def take(self) -> bytes:
        """The bytes to write now."""
        return self._send_queue.take()

    @property
    def has_more(self) -> bool:
        """Whether `take` has more to return in another turn."""
        return self._send_queue.has_more

    @property
    def unsent(self) -> int:
        """Bytes of answers that wait for room in the peer's windows."""
        return self._send_queue.unsent

    def send_headers(self, stream: Stream, block: bytes) -> None:
        """Send an encoded header block that does not end the stream."""
        self._send_queue.headers(stream, block)

    def send_data(self, stream: Stream, data: Piece) -> None:
        """Send a piece of the answer, or keep it until the windows have room."""
        self._send_queue.data(stream, data)
        if self._send_queue.unsent > self._max_unsent_bytes:
            self._fail(ErrorCode.ENHANCE_YOUR_CALM, "answers are not taken")

    def send_end(self, stream: Stream, block: bytes) -> None:
        """Send trailers, which finish the stream."""
        self._send_queue.end(stream, block)

    # ---- ends

    def announce_end(self) -> None:
        """First step of a graceful end: a GOAWAY that does not say yet which streams are served (RFC 9113, 6.8)."""
        if not self.closing:
            self._send_queue.control(frames.go_away(frames.MAX_WINDOW, ErrorCode.NO_ERROR))

    def refuse_new(self) -> None:
        """Second step: serve the streams up to now, refuse later ones."""
        table = self._table
        if not self.closing and table.promised_id is None:
            table.promised_id = table.last_id
            self._send_queue.control(frames.go_away(table.last_id, ErrorCode.NO_ERROR))

    def _fail(self, code: ErrorCode, reason: str) -> None:
        table = self._table
        self.close_reason = reason
        last_id = table.last_id if table.promised_id is None else table.promised_id  # it must never grow
        self._send_queue.control(frames.go_away(last_id, code, reason.encode()))
        self.lost(code)

    def lost(self, code: int = ErrorCode.CANCEL) -> None:
        """The connection is gone, and every stream with it."""
        self.closing = True
        self._reader.stop()
        self._table.close_all(code)
