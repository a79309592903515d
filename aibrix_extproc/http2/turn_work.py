"""How much one connection may do in a turn of the event loop before other connections have theirs."""

from typing import Final

from aibrix_extproc.http2.limits import MIB

# The reader counts frames. One frame may hold a hundred thousand tiny messages, so these are counted as well.
MESSAGES_PER_TURN: Final = 64
BYTES_PER_TURN: Final = MIB  # of messages that handlers took; the worst JSON of this size takes 3 ms


class TurnWork:
    """Counts the work of one connection since its last turn ended."""

    __slots__ = ("_bytes", "_messages")

    def __init__(self) -> None:
        self._messages = 0
        self._bytes = 0

    def add_message(self) -> bool:
        """Count a message that shared its frame with others. True if the turn shall end."""
        self._messages += 1
        return self._ends_turn(self._messages >= MESSAGES_PER_TURN)

    def add_bytes(self, size: int) -> bool:
        """Count the bytes of a message. True if the turn shall end."""
        self._bytes += size
        return self._ends_turn(self._bytes >= BYTES_PER_TURN)

    def _ends_turn(self, full: bool) -> bool:
        if full:
            self._messages = self._bytes = 0
        return full
