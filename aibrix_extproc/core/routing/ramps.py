"""A warm-up share for endpoints whose cordon has just ended: their caches are cold.

An endpoint that is ramped takes a share of the requests that would go to it, which grows from a tenth to all of them.
The others go to the next candidate. Nothing is done, and nothing drawn, while no endpoint is ramped.
"""

from collections.abc import Callable, Iterable
from typing import Final

from msgspec.structs import replace

from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.placing import Placement

FIRST_SHARE: Final = 0.1
Pair = tuple[Endpoint | None, Endpoint | None]


class Ramps:
    """The endpoints that warm up. `clock`: monotonic seconds; `draw`: a uniform number in [0, 1)."""

    def __init__(self, seconds: float, clock: Callable[[], float], draw: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._draw = draw
        self._started: dict[str, float] = {}  # by identity

    def __bool__(self) -> bool:
        return bool(self._started)

    def on_changes(self, pairs: Iterable[Pair], _: object) -> None:
        """Ramp the endpoints whose cordon has ended; forget those that are cordoned or gone."""
        for before, after in pairs:
            if before is None:
                continue
            if after is None or after.cordon:
                self._started.pop(before.identity, None)
            elif before.cordon and self._seconds > 0:
                self._started[before.identity] = self._clock()

    def spread(self, placement: Placement) -> Placement:
        """The placement; its first candidate becomes the last if it warms up and it is not its turn."""
        share = self._share(placement.first.identity)
        if share >= 1.0 or self._draw() < share:
            return placement
        first, *others = placement.candidates
        if all(one.identity in self._started for one in others):
            return placement  # all are cold: the choice of the strategy is as good as any
        others.sort(key=lambda one: one.identity in self._started)
        return replace(placement, candidates=(*others, first))

    def _share(self, identity: str) -> float:
        started = self._started.get(identity)
        if started is None:
            return 1.0
        done = (self._clock() - started) / self._seconds
        if done >= 1.0:
            del self._started[identity]
            return 1.0
        return FIRST_SHARE + (1.0 - FIRST_SHARE) * done
