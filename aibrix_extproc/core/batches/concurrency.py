"""How many requests of batches run at once for a model, so that all other requests go first.

There are two bounds. The first is additive increase, multiplicative decrease (Chiu and Jain 1989): a success adds a
share of one, so that a whole round adds one, and before the first refusal a whole one, which doubles it. An answer that
says "too much" halves the limit, once per round trip, because the answers of one overload come together. The second
bound is a number for each ready engine. Requests of others, as the gateways report them, are taken off the smaller of
the two, so that lines stop at the first answer after a burst begins. A moment without others in the middle of a burst
does not bring the lines back: their number counts as high as its mean was, and each good answer lets one more run.
"""

import math
from typing import Final

from aibrix_extproc.core.batches.engine_load import EngineLoadReport

LEAST: Final = 1.0  # that runs in any case: its answers bring the next report
PER_ENGINE: Final = 32  # engines batch more than that, but others would wait for their prompts
YIELD: Final = 16.0  # lines that make way for each request of others, beyond one for each engine
REPORT_SECONDS: Final = 30.0  # for which a report counts
MEAN_SECONDS: Final = 1.0  # in which the mean of others falls to a third; long, it costs idle time after bursts
_PAUSE_SECONDS: Final = 1.0


class Concurrency:
    """The limit of one model. Times are seconds of one monotonic clock."""

    __slots__ = (
        "_allowed", "_held_until", "_mean_others", "_most", "_per_engine", "_refused", "_reported_at", "_reports",
        "_typical", "limit",
    )  # fmt: skip

    def __init__(self, start: float = 8.0, most: float = 256.0, per_engine: int = PER_ENGINE) -> None:
        self.limit = start
        self._most = most
        self._per_engine = per_engine
        self._typical = 0.0  # seconds of an answer, smoothed
        self._held_until = 0.0
        self._refused = False
        self._reports: dict[str, tuple[float, EngineLoadReport]] = {}  # the last of each gateway, and when it came
        self._mean_others = 0.0
        self._reported_at = -math.inf
        self._allowed = math.inf  # falls with the room at once, and comes back with good answers

    def room(self, running: int) -> int:
        """How many more requests may start."""
        return max(int(self.bound) - running, 0)

    @property
    def bound(self) -> float:
        """How many may run at once."""
        return max(min(self._room_beside_others(), self._allowed), LEAST)

    def _room_beside_others(self) -> float:
        engines = max((report.engines for _, report in self._reports.values()), default=0)
        most = min(self.limit, engines * self._per_engine) if engines else self.limit
        others = max(self._others(), self._mean_others)
        return most - others - YIELD * max(others - engines, 0)

    def _others(self) -> int:
        return sum(report.others for _, report in self._reports.values())

    def reported(self, now: float, report: EngineLoadReport) -> None:
        """A gateway has described the engines."""
        self._reports[report.gateway] = now, report
        for name in [name for name, (at, _) in self._reports.items() if now - at > REPORT_SECONDS]:
            del self._reports[name]
        kept = math.exp((self._reported_at - now) / MEAN_SECONDS)
        self._mean_others = kept * self._mean_others + (1 - kept) * self._others()
        self._reported_at = now
        self._allowed = max(min(self._allowed, self._room_beside_others()), LEAST)

    def succeeded(self, now: float, seconds: float, running: int) -> None:
        """A good answer came after `seconds`, while `running` requests ran."""
        self._allowed += 1
        self._typical = seconds if not self._typical else 0.9 * self._typical + 0.1 * seconds
        # A bound that is not reached proves nothing, and where only the least runs the engines are busy with others.
        if now >= self._held_until and running + 1 >= int(self.bound) and not self.bound <= LEAST < self.limit:
            self.limit = min(self.limit + (1.0 / self.limit if self._refused else 1.0), self._most)

    def overloaded(self, now: float) -> None:
        """The answer was a 429, a 503 or a broken connection."""
        if now < self._held_until:
            return
        self._refused = True
        self.limit = max(self.limit / 2, LEAST)
        self._held_until = now + max(_PAUSE_SECONDS, self._typical)
