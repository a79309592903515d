"""Limits on what a peer may make a connection do, and the budgets that keep floods out."""

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Limits of one connection unless said otherwise; passing one ends it, or the stream, with the right error."""

    concurrent_streams: int = 20_000
    # Headers are decoded in Python: a field takes 3 us, and so do 16 bytes of Huffman code. Small blocks may have many
    # fields, since a field may be one byte that names an entry of the table; so work is counted, not bytes.
    header_block_bytes: int = 16 * KIB  # HEADERS with all its CONTINUATIONs, still compressed
    header_list_bytes: int = 32 * KIB  # and when they are not
    header_fields: int = 128  # of one block, updates of the table's size included; gRPC clients send a dozen
    header_work_per_turn: int = 1_000  # fields and 16 bytes of block, of blocks that are not remembered: 3 ms
    continuations: int = 16
    frame_bytes: int = 1 * MIB
    stream_window: int = 4 * MIB
    connection_window: int = 64 * MIB
    # Of messages that are not complete, or that wait for the one before them; all connections of a server together.
    buffered_bytes: int = 512 * MIB
    unsent_bytes: int = 128 * MIB  # answers that a peer does not take
    unsent_bytes_together: int = 512 * MIB  # and all peers of a server
    frames_per_turn: int = 256  # then other connections have their turn
    # Frames that cost work and carry nothing: a burst, a rate, and some for each frame that does carry something, since
    # busy peers of some kinds send a PING and two WINDOW_UPDATEs for each answer. They may come much later: grpcio
    # sends a WINDOW_UPDATE when its application reads, ten thousand in a row if that reads ten thousand streams.
    idle_frames: int = 2_000
    idle_frames_per_second: float = 500.0
    idle_frames_per_useful: float = 4.0
    idle_frames_saved: int = 100_000
    # SETTINGS may move the window of every stream, so there are fewer of them.
    settings_frames: int = 100
    settings_per_second: float = 10.0
    settings_per_frame: int = 64
    # Streams that are malformed, broken, or reset before they had said anything: no gRPC client means to do that.
    empty_streams: int = 500
    empty_streams_per_second: float = 100.0
    # And before they were answered: many at once when clients give up, but not for ever.
    unanswered_streams: int = 20_000
    unanswered_streams_per_second: float = 1_000.0


class MemoryUse:
    """What the connections of a server hold together, in bytes."""

    __slots__ = ("buffered", "unsent")

    def __init__(self) -> None:
        self.buffered = 0  # messages that are incomplete or wait
        self.unsent = 0  # answers that wait for peers, as last counted


MESSAGES_PER_TURN = 64  # of those that share a frame; tiny ones fit into one by the hundred thousand
BYTES_PER_TURN = MIB  # of messages handled; the worst JSON takes 3 ms for it


class Turn:
    """What a connection has done since its last turn of the loop ended."""

    __slots__ = ("_bytes", "_messages")

    def __init__(self) -> None:
        self._messages = 0
        self._bytes = 0

    def add_message(self) -> bool:
        """Count a message that shared its frame with others; whether others shall have their turn now."""
        self._messages += 1
        return self._is_over(self._messages >= MESSAGES_PER_TURN)

    def add_bytes(self, size: int) -> bool:
        """Count a message's bytes; whether others shall have their turn now."""
        self._bytes += size
        return self._is_over(self._bytes >= BYTES_PER_TURN)

    def _is_over(self, over: bool) -> bool:
        if over:
            self._messages = self._bytes = 0
        return over


class TokenBucket:
    """A token bucket on a clock that is handed in. What is earned on top of the rate may be saved up to `saved`."""

    __slots__ = ("_at", "_left", "_most", "_rate", "_saved")

    def __init__(self, most: int, per_second: float, saved: int = 0) -> None:
        self._most = float(most)
        self._rate = per_second
        self._saved = float(max(most, saved))
        self._left = float(most)
        self._at: float | None = None

    def spend(self, at: float, earned: float = 0.0) -> bool:
        """Take one after adding what was earned; False when there is none left."""
        left = self._left
        if self._at is not None and left < self._most:
            left = min(self._most, left + (at - self._at) * self._rate)
        self._at = at
        self._left = min(self._saved, left + earned) - 1.0
        return self._left >= 0.0
