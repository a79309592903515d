"""When each engine was last used by this gateway, for policies that put idle engines to sleep."""

from collections.abc import Callable, Mapping

from aibrix_extproc.core.exchange.outputs import Finished, Moved
from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.fleet.model import Snapshot
from aibrix_extproc.core.operations.policies import ModelPolicy


class EngineUse:
    """Kept for engines of the fleet only. `clock`: monotonic seconds; nothing is known from before the first policy."""

    def __init__(
        self, policies: Mapping[str, ModelPolicy], snapshot: Callable[[], Snapshot], load: LoadBook,
        clock: Callable[[], float],
    ) -> None:  # fmt: skip
        self._policies = policies
        self._snapshot = snapshot
        self._load = load
        self._clock = clock
        self._started_at = clock()
        self._used_at: dict[str, float] = {}

    def finished(self, fact: Finished) -> None:
        """An exchange has ended."""
        if fact.assigned_to is not None and self._policies:
            self._used_at[fact.assigned_to] = self._clock()

    def moved(self, fact: Moved) -> None:
        """An exchange went on to another engine."""
        if self._policies:
            self._used_at[fact.from_identity] = self._clock()

    def usage(self) -> dict[str, tuple[int, float]]:
        """Of each engine of a model with a policy: exchanges in flight, and seconds since the last one ended."""
        if not self._policies:
            self._used_at.clear()
            self._started_at = self._clock()
            return {}
        fleet = self._snapshot()
        if len(self._used_at) > len(fleet.endpoints):
            here = {one.identity for one in fleet.endpoints}
            self._used_at = {identity: at for identity, at in self._used_at.items() if identity in here}
        now = self._clock()
        found: dict[str, tuple[int, float]] = {}
        for model in self._policies:
            for one in fleet.by_model.get(model, ()):
                count = self._load.in_flight(one.identity)
                idle = 0.0 if count else now - self._used_at.get(one.identity, self._started_at)
                found[one.identity] = count, round(idle, 1)
        return found
