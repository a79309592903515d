"""Bounds on what a peer may make a connection do, and the budgets that keep floods out."""

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one connection; each one passed ends the connection (or the stream) with the right error."""

    concurrent_streams: int = 20_000
    header_block_bytes: int = 64 * 1024  # HEADERS with all its CONTINUATIONs, still compressed
    header_list_bytes: int = 256 * 1024  # and when they are not
    continuations: int = 16
    frame_bytes: int = 1 * MIB
    stream_window: int = 4 * MIB
    connection_window: int = 64 * MIB
    unsent_bytes: int = 128 * MIB  # answers that a peer does not take
    # Frames that cost work and carry nothing: a burst and a rate. A well-behaved Envoy needs a few a second.
    idle_frames: int = 2_000
    idle_frames_per_second: float = 500.0
    # Streams ended by the peer before they had said anything.
    empty_streams: int = 500
    empty_streams_per_second: float = 100.0


class Budget:
    """A token bucket on a clock that is handed in."""

    __slots__ = ("_at", "_left", "_most", "_rate")

    def __init__(self, most: int, per_second: float) -> None:
        self._most = float(most)
        self._rate = per_second
        self._left = float(most)
        self._at: float | None = None

    def spend(self, at: float) -> bool:
        """Take one; False when there is none left."""
        if self._at is not None:
            self._left = min(self._most, self._left + (at - self._at) * self._rate)
        self._at = at
        self._left -= 1.0
        return self._left >= 0.0
