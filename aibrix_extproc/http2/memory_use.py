"""How much memory all connections of a server use together."""


class MemoryUse:
    """Counters in bytes. Connections add to them and subtract again."""

    __slots__ = ("buffered", "unsent")

    def __init__(self) -> None:
        self.buffered = 0  # requests: messages that are incomplete or wait for a handler
        self.unsent = 0  # answers that wait for their peers, as of the last update
