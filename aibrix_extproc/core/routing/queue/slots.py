"""How many requests an engine works on at once: a setting, what its pod says, or learned from its own queue."""

from typing import Final

from aibrix_extproc.core.fleet.gauges import EngineGauges

BACKLOG: Final = 1  # more than an engine runs, so that it never waits for us
_WEIGHT: Final = 0.3  # of a new reading


class Slots:
    """Of the endpoints by identity. `fixed`: the same for all; without it they are learned, and unknown at first.

    An engine in which requests wait runs as many as it can: that number is learned. One that has as many as it was
    thought to take, and in which none wait, can take one more.
    """

    def __init__(self, fixed: int | None = None) -> None:
        self._fixed = fixed
        self._learned: dict[str, float] = {}
        self._read_at: dict[str, float] = {}

    def read(self, identity: str, reading: EngineGauges) -> None:
        """Learn from a reading; one that was read before changes nothing."""
        if self._fixed is not None or reading.running is None or self._read_at.get(identity) == reading.at:
            return
        self._read_at[identity] = reading.at
        known = self._learned.get(identity)
        if reading.waiting is not None and reading.waiting > BACKLOG and reading.running >= 1:
            self._learned[identity] = reading.running if known is None else known + _WEIGHT * (reading.running - known)
        elif known is not None and reading.running >= known and not reading.waiting:
            self._learned[identity] = reading.running + 1

    def of(self, identity: str, known: int | None = None) -> float | None:
        """Requests that an endpoint shall have at most; None: not known, so no request is held back for it.

        `known`: what it runs at once, if its pod says so.
        """
        if self._fixed is not None:
            return self._fixed
        if known is not None:
            return known + BACKLOG
        learned = self._learned.get(identity)
        return None if learned is None else learned + BACKLOG

    def forget(self, identity: str) -> None:
        """An endpoint is gone."""
        self._learned.pop(identity, None)
        self._read_at.pop(identity, None)
