"""How many requests of batches run at once for a model: additive increase, multiplicative decrease.

Chiu and Jain 1989. A success adds a share of one, so that a whole round adds one; an answer that says "too much" halves
the limit, once per round trip, because the answers of one overload come together.
"""

from typing import Final

LEAST: Final = 1.0
_PAUSE_SECONDS: Final = 1.0


class Concurrency:
    """The limit of one model. Times are seconds of one monotonic clock."""

    __slots__ = ("_held_until", "_most", "_typical", "limit")

    def __init__(self, start: float = 8.0, most: float = 256.0) -> None:
        self.limit = start
        self._most = most
        self._typical = 0.0  # seconds of an answer, smoothed
        self._held_until = 0.0

    def room(self, running: int) -> int:
        """How many more requests may start."""
        return max(int(self.limit) - running, 0)

    def succeeded(self, now: float, seconds: float, running: int) -> None:
        """A good answer came after `seconds`, while `running` requests ran."""
        self._typical = seconds if not self._typical else 0.9 * self._typical + 0.1 * seconds
        if now >= self._held_until and running + 1 >= int(self.limit):  # a limit that is not reached proves nothing
            self.limit = min(self.limit + 1.0 / self.limit, self._most)

    def overloaded(self, now: float) -> None:
        """The answer was a 429, a 503 or a broken connection."""
        if now < self._held_until:
            return
        self.limit = max(self.limit / 2, LEAST)
        self._held_until = now + max(_PAUSE_SECONDS, self._typical)
