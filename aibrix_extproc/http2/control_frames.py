"""Frames for the connection as a whole: SETTINGS, PING and GOAWAY; and the check of PRIORITY."""

from collections.abc import Mapping
from typing import Final

from aibrix_extproc.http2 import frames
from aibrix_extproc.http2.errors import ProtocolError
from aibrix_extproc.http2.flood_guard import FloodGuard
from aibrix_extproc.http2.frames import ErrorCode, Setting
from aibrix_extproc.http2.limits import ConnectionLimits
from aibrix_extproc.http2.send_queue import SendQueue
from aibrix_extproc.http2.streams import Stream

_GOAWAY_BYTES: Final = 8
_PING_BYTES: Final = 8
_SETTING_BYTES: Final = 6


def server_preface(limits: ConnectionLimits) -> bytes:
    """The frames that open a connection: SETTINGS, and a larger window for the connection."""
    settings = frames.settings(
        {
            Setting.MAX_CONCURRENT_STREAMS: limits.concurrent_streams,
            Setting.INITIAL_WINDOW_SIZE: limits.stream_window,
            Setting.MAX_FRAME_SIZE: limits.frame_bytes,
            Setting.MAX_HEADER_LIST_SIZE: limits.header_list_bytes,
        }
    )
    more = limits.connection_window - frames.DEFAULT_WINDOW
    return settings + frames.window_update(0, more) if more > 0 else settings


class ControlFrames:
    """Applies and answers them."""

    def __init__(
        self, limits: ConnectionLimits, send_queue: SendQueue, streams: Mapping[int, Stream], guard: FloodGuard
    ) -> None:
        self._settings_per_frame = limits.settings_per_frame
        self._send_queue = send_queue
        self._streams = streams
        self._guard = guard
        self.settings_seen = False

    def frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        """Take any frame but DATA, HEADERS, CONTINUATION, RST_STREAM, WINDOW_UPDATE and PRIORITY.

        Raises ProtocolError.
        """
        self._guard.spend_idle_frame("control frames")
        if kind == frames.SETTINGS:
            self._on_settings(flags, stream_id, payload)
        elif kind == frames.PING:
            self._on_ping(flags, stream_id, payload)
        elif kind == frames.GOAWAY:
            _check_go_away(stream_id, payload)  # it restricts streams that we open, and we open none
        elif kind == frames.PUSH_PROMISE:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "a client cannot push")
        # A server must ignore frames of other kinds (RFC 9113, 5.5).

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id != 0:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & frames.ACK:
            if payload:
                raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "an acknowledgement with content")
            return
        if len(payload) % _SETTING_BYTES:
            raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS has another size")
        if len(payload) > self._settings_per_frame * _SETTING_BYTES:
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "too many settings")
        self._guard.spend_settings()
        self.settings_seen = True
        initial_window: int | None = None
        for name, value in frames.iter_settings(payload):
            _check_setting(name, value)
            if name == Setting.INITIAL_WINDOW_SIZE:
                initial_window = value
            elif name == Setting.MAX_FRAME_SIZE:
                self._send_queue.set_max_frame(value)
        # Only the last entry counts, so a frame costs one pass over the streams, not one for each entry.
        if initial_window is not None and not self._send_queue.set_initial_window(
            initial_window, self._streams.values()
        ):
            raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "a window is too large")
        self._send_queue.control(frames.SETTINGS_ACK)
        self._send_queue.flush()

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id != 0:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != _PING_BYTES:
            raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "PING has another size")
        if not flags & frames.ACK:
            self._send_queue.control(frames.frame(frames.PING, frames.ACK, 0, payload))


def priority_error(stream_id: int, payload: bytes) -> ErrorCode | None:
    """The error of a malformed PRIORITY frame. A correct one is ignored, because it is obsolete (RFC 9113, 5.3.2)."""
    if stream_id == 0:
        raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "PRIORITY without a stream")
    if len(payload) != frames.PRIORITY_BYTES:
        return ErrorCode.FRAME_SIZE_ERROR
    depends_on = frames.unpack_word(payload)[0] & frames.MAX_WINDOW
    return ErrorCode.PROTOCOL_ERROR if depends_on == stream_id else None


def _check_go_away(stream_id: int, payload: bytes) -> None:
    if stream_id != 0:
        raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "GOAWAY on a stream")
    if len(payload) < _GOAWAY_BYTES:
        raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY is too short")


def _check_setting(name: int, value: int) -> None:
    """Check a value. HEADER_TABLE_SIZE limits our encoder, which uses no table; other settings are for clients."""
    if name == Setting.INITIAL_WINDOW_SIZE and value > frames.MAX_WINDOW:
        raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "the initial window is too large")
    if name == Setting.MAX_FRAME_SIZE and not frames.DEFAULT_FRAME_BYTES <= value <= frames.MAX_FRAME_BYTES:
        raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "the frame size is out of range")
    if name == Setting.ENABLE_PUSH and value not in (0, 1):
        raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "ENABLE_PUSH is 0 or 1")
