"""Budgets for what costs work and carries nothing, so that a flood of it ends the connection."""

from aibrix_extproc.http2.errors import ProtocolError
from aibrix_extproc.http2.frames import ErrorCode
from aibrix_extproc.http2.limits import ConnectionLimits
from aibrix_extproc.http2.token_bucket import TokenBucket


class FloodGuard:
    """The budgets of one connection. Each method raises ProtocolError if its budget is used up."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self._earned_per_useful = limits.idle_frames_per_useful
        self._idle = TokenBucket(limits.idle_frames, limits.idle_frames_per_second, limits.idle_frames_saved)
        self._settings = TokenBucket(limits.settings_frames, limits.settings_per_second)
        self._empty = TokenBucket(limits.empty_streams, limits.empty_streams_per_second)
        self._unanswered = TokenBucket(limits.unanswered_streams, limits.unanswered_streams_per_second)
        self.now = 0.0  # monotonic seconds; the connection sets it before it reads frames
        self.useful = 0  # frames with content since the last frame without; the connection counts them

    def spend_idle_frame(self, what: str) -> None:
        """Count a frame that carries nothing."""
        earned, self.useful = self.useful * self._earned_per_useful, 0
        if not self._idle.spend(self.now, earned):
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, f"too many {what}")

    def spend_settings(self) -> None:
        """Count a SETTINGS frame, which may change the window of every stream."""
        if not self._settings.spend(self.now):
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "too many settings")

    def spend_empty_stream(self, what: str) -> None:
        """Count a stream that is malformed, broken, or reset before any data came."""
        if not self._empty.spend(self.now):
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, f"too many {what}")

    def spend_unanswered_stream(self) -> None:
        """Count a stream that the peer reset before it was answered."""
        if not self._unanswered.spend(self.now):
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "too many streams that are not answered before a reset")
