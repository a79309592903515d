"""How many of a model's slots each caller may hold, so that one with long requests does not hold all of them.

Order alone is not enough: a slot that a long request holds is gone until that ends. So some slots are kept free for
the other callers: as many as these lately held on average, and some square roots of it more, for they come by chance. A
caller that has none, or fewer than an equal share, may take any free slot.
"""

import math
from typing import Final, NamedTuple

from aibrix_extproc.core.routing.queue.classes import RequestClass

MEAN_SECONDS: Final = 5.0  # time constant of the averages
# Standard deviations of a number that comes by chance (Poisson's): with 2 others' p95 stays as it is, with 3 their p99.
SPREAD: Final = 2.0
SPREAD_OF_BATCHES: Final = 3.0
_FORGOTTEN: Final = 0.01  # requests at once


class Room(NamedTuple):
    """Slots for requests at the engines of a model."""

    free: float
    slots: float  # in all


class Shares:
    """The requests that run, by caller. Those of batches are counted apart: no slot is kept free for them."""

    def __init__(self) -> None:
        self._users: dict[str, _User] = {}
        self.batch = 0  # requests of batches that run

    def started(self, caller: str, now: float, *, batch: bool) -> None:
        """A request goes to an engine."""
        if batch:
            self.batch += 1
            return
        user = self._users.get(caller)
        if user is None:
            user = self._users[caller] = _User(now)
        user.settle(now)
        user.running += 1

    def ended(self, caller: str, now: float, *, batch: bool) -> None:
        """It is over."""
        if batch:
            self.batch = max(self.batch - 1, 0)
            return
        user = self._users.get(caller)
        if user is not None:
            user.settle(now)
            user.running = max(user.running - 1, 0)

    def reading(self, room: Room, now: float) -> "Reading":
        """The shares of the moment; good until a request starts or ends."""
        for name, user in tuple(self._users.items()):
            user.settle(now)
            if not user.running and user.mean < _FORGOTTEN:
                del self._users[name]
        return Reading(self._users, room)


class Reading:
    """Who may take one of the free slots."""

    __slots__ = ("_free", "_running", "_share", "_slots", "_users", "_wanted")

    def __init__(self, users: dict[str, "_User"], room: Room) -> None:
        self._users = users
        self._free, self._slots = room
        self._share = self._slots / max(len(users), 1)
        self._running = sum([user.running for user in users.values()])
        self._wanted = sum([min(user.mean, self._share) for user in users.values()])

    def may_start(self, caller: str, kind: RequestClass) -> bool:
        """Whether a request of this caller and class may go to an engine."""
        if self._free < 1:
            return False
        if kind is RequestClass.BATCH:  # a caller's own batch makes way for its other requests, too
            return self._free >= 1 + _kept(self._wanted, self._running, SPREAD_OF_BATCHES)
        own = self._users.get(caller)
        running = 0 if own is None else own.running
        share = self._slots / (len(self._users) + (own is None))
        if running < max(math.floor(share), 1):
            return True
        wanted = self._wanted - (0.0 if own is None else min(own.mean, self._share))
        return self._free >= 1 + min(_kept(wanted, self._running - running, SPREAD), self._slots - share)


def _kept(wanted: float, running: int, spread: float) -> float:
    """Slots to be kept free for callers that hold `wanted` on average, and `running` now."""
    return max(wanted + spread * math.sqrt(wanted) - running, 0.0)


class _User:
    __slots__ = ("_at", "mean", "running")

    def __init__(self, now: float) -> None:
        self.running = 0
        self.mean = 0.0  # requests at once, lately
        self._at = now

    def settle(self, now: float) -> None:
        """Bring the average up to now."""
        if now > self._at:
            self.mean = self.running + (self.mean - self.running) * math.exp((self._at - now) / MEAN_SECONDS)
            self._at = now
