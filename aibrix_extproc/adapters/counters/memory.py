"""Counters in this process: exact where there is one process, a share of the limit each otherwise."""

import time
from collections.abc import Sequence
from typing import Final

from aibrix_extproc.core.access.limits.counters import EPOCH, Claim, Counters, Known, Reading

PRUNED: Final = 64  # counters and reservations that are looked at for every PRUNED_EVERY new ones
PRUNED_EVERY: Final = 32
MAX_COUNTERS: Final = 500_000


class SteadyClock:
    """Microseconds since EPOCH, by the wall clock of its start and the monotonic clock since then."""

    def __init__(self) -> None:
        self._start = (time.time() - EPOCH - time.monotonic()) * 1e6

    def __call__(self) -> float:
        """The time now."""
        return self._start + time.monotonic() * 1e6


class MemoryCounters:
    """One per process."""

    def __init__(self, *, keep_seconds: float, lease_seconds: float) -> None:
        self._counters = Counters()
        self._unpruned = 0
        self.clock = SteadyClock()
        self._keep, self._lease = keep_seconds * 1e6, lease_seconds * 1e6

    def __len__(self) -> int:
        return len(self._counters)

    @property
    def is_away(self) -> bool:
        """Never."""
        return False

    def reserve(
        self,
        reservation: str,
        claims: tuple[Claim, ...],
        costs: tuple[float, ...],
        known: Sequence[Known | None] | None = None,
    ) -> Reading:
        """The reading of this moment."""
        now = self.clock()
        self._unpruned += 1
        if self._unpruned >= PRUNED_EVERY:
            self._unpruned = 0
            self._counters.prune(now, PRUNED if len(self._counters) < MAX_COUNTERS else MAX_COUNTERS)
        return self._counters.reserve(now, reservation, claims, costs, keep=self._keep, lease=self._lease, known=known)

    def peek(self, claims: tuple[Claim, ...], *, fresh: bool = False) -> Reading:
        """The reading without taking anything. It is always of this moment."""
        return self.reserve("", claims, (0.0,) * len(claims))

    def settle(self, reservation: str, actual: Sequence[float] | None) -> None:
        """Replace what was reserved."""
        self._counters.settle(self.clock(), reservation, actual)

    def release(self, reservation: str) -> None:
        """End the leases of a reservation."""
        self._counters.release(reservation)

    def renew(self, counter: str, members: Sequence[str]) -> int:
        """Let members expire later."""
        return self._counters.renew(self.clock(), counter, members, self._lease)
