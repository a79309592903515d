"""Places for the values of a label: bounded, for names that exist, given back when a name is gone."""

from collections.abc import Callable, Iterable
from typing import Final, Protocol

OTHER: Final = "other"
GONE_SECONDS: Final = 900.0  # a model whose pods are all replaced keeps its series
_RECLAIM_SECONDS: Final = 1.0


class Series(Protocol):
    """A metric with labels."""

    def forget(self, label: str, value: str) -> None:
        """Drop the series that have this value of a label."""


class LabelSlots:
    """Which names have series of their own. A name that is gone keeps its place for a while, unless it is needed."""

    def __init__(self, label: str, limit: int, series: Iterable[Series], clock: Callable[[], float]) -> None:
        self._label = label
        self._limit = limit
        self._series = tuple(series)
        self._clock = clock
        self._taken: dict[str, float | None] = {}  # name -> since when it was seen to be gone
        self._reclaimed_at = float("-inf")
        self.exists: Callable[[str], bool] = lambda _: True

    def __len__(self) -> int:
        return len(self._taken)

    def of(self, name: str) -> str:
        """The label value to count a name by: itself, or OTHER."""
        if name in self._taken:
            return name
        if not self.exists(name) or (len(self._taken) >= self._limit and not self._reclaim()):
            return OTHER
        self._taken[name] = None
        return name

    def review(self) -> None:
        """Take the places of names that were gone for long. Called at each scrape."""
        self._mark()
        now = self._clock()
        for name, since in tuple(self._taken.items()):
            if since is not None and now - since >= GONE_SECONDS:
                self._release(name)

    def _mark(self) -> None:
        now = self._clock()
        for name, since in self._taken.items():
            if self.exists(name):
                self._taken[name] = None
            elif since is None:
                self._taken[name] = now

    def _reclaim(self) -> bool:
        """Take all places of names that are gone; tried once a second at most."""
        now = self._clock()
        if now - self._reclaimed_at < _RECLAIM_SECONDS:
            return False
        self._reclaimed_at = now
        self._mark()
        gone = [(since, name) for name, since in self._taken.items() if since is not None]
        for _, name in gone:
            self._release(name)
        return bool(gone)

    def _release(self, name: str) -> None:
        del self._taken[name]
        for one in self._series:
            one.forget(self._label, name)
