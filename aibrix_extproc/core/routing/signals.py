"""What strategies may know besides the request and its endpoints: in-flight counts, turns and chance."""

from collections.abc import Callable

from aibrix_extproc.core.fleet.load import LoadBook


class Signals:
    """One for all placements of a process. `draw` gives a uniform number in [0, 1)."""

    def __init__(self, load: LoadBook, draw: Callable[[], float]) -> None:
        self.load = load
        self.draw = draw
        self._ticks: dict[str, int] = {}  # placements by model, of models that are served

    def tick(self, model: str) -> int:
        """The number of placements of this model before this one.

        Per model, since two models that alternate on one counter would each see every other number.
        """
        tick = self._ticks[model] = self._ticks.get(model, -1) + 1
        return tick
