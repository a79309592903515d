"""How fast a batch goes, and when it will be done. Pure."""

from collections import deque
from typing import Final

WINDOW_SECONDS: Final = 30.0


class Pace:
    """Counts of what is done, over a window that moves with them. Times are seconds of one clock."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def observe(self, now: float, done: int) -> None:
        """So many requests are done now."""
        self._seen.append((now, done))
        while now - self._seen[0][0] > WINDOW_SECONDS and len(self._seen) > 2:
            self._seen.popleft()

    @property
    def rate(self) -> float | None:
        """Requests a second; None before two looks."""
        (first, before), (last, after) = self._seen[0], self._seen[-1]
        return (after - before) / (last - first) if last > first else None

    def seconds_left(self, total: int) -> float | None:
        """Until all of so many are done at this rate; None if nothing moves."""
        rate = self.rate
        return (total - self._seen[-1][1]) / rate if rate else None
