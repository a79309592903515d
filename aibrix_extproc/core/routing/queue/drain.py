"""How fast a line moves, and so when it is worth to come again."""

import math
from typing import Final

LONGEST_SECONDS: Final = 60
_HALF_LIFE: Final = 5.0


class DrainRate:
    """Departures per second, the last ones counting most."""

    __slots__ = ("_at", "_count", "_seconds")

    def __init__(self, now: float) -> None:
        self._at = now
        self._count = 0.0
        self._seconds = 0.0

    def departed(self, now: float) -> None:
        """A request has gone to an engine."""
        self._age(now)
        self._count += 1.0

    def retry_after(self, ahead: int, now: float) -> int:
        """Whole seconds until so many have gone, from 1 to a minute; 5 while nothing is known."""
        self._age(now)
        if self._count < 1.0 or self._seconds <= 0.0:
            return 5
        return max(1, min(LONGEST_SECONDS, math.ceil((ahead + 1) * self._seconds / self._count)))

    def _age(self, now: float) -> None:
        passed = max(now - self._at, 0.0)
        self._at = now
        share = 0.5 ** (passed / _HALF_LIFE)
        self._count *= share
        self._seconds = self._seconds * share + passed
