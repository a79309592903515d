"""The database's time between two looks at it, so that a process' own clock may be wrong or jump."""

import time


class DatabaseClock:
    """What the database said last, plus what has passed since. Before it said anything: this machine's clock."""

    __slots__ = ("_ahead",)

    def __init__(self) -> None:
        self._ahead = time.time() - time.monotonic()

    def observe(self, now: float) -> None:
        """The database said its time, in seconds since the epoch."""
        self._ahead = now - time.monotonic()

    def __call__(self) -> float:
        """Seconds since the epoch."""
        return time.monotonic() + self._ahead
