"""Places requests in the fleet of the moment."""

from collections.abc import Callable

from aibrix_extproc.core.exchange.asks import Place, Placed, Refused
from aibrix_extproc.core.fleet.model import Snapshot
from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.routing.place import Placer


class Placing:
    """`clock`: monotonic seconds."""

    def __init__(self, placer: Placer, snapshot: Callable[[], Snapshot], clock: Callable[[], float]) -> None:
        self._placer = placer
        self._snapshot = snapshot
        self._clock = clock

    def place(self, ask: Place) -> Placed | Refused:
        """Where the request may go, or why nowhere."""
        decision = self._placer.place(ask, self._snapshot())
        if isinstance(decision, Problem):
            return Refused(decision)
        return Placed(self._clock(), decision.placement, decision.answer_headers, decision.response_id)
