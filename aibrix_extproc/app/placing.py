"""Places requests in the fleet of the moment; one that cannot be placed at once may wait."""

from collections.abc import Awaitable, Callable
from functools import partial

from aibrix_extproc.app.decisions import NO_TRAIL, Decisions
from aibrix_extproc.app.parts.queue import Queue
from aibrix_extproc.core.exchange.asks import Place, Placed, Refused
from aibrix_extproc.core.fleet.model import Snapshot
from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.contract.headers import DECISION
from aibrix_extproc.core.openai.contract.operations import Role
from aibrix_extproc.core.routing.place import Decision, Placer
from aibrix_extproc.core.routing.record import Detail
from aibrix_extproc.core.routing.record_page import header


class Placing:
    """`clock`: monotonic seconds. Without `waking` nobody waits."""

    def __init__(
        self,
        placer: Placer,
        snapshot: Callable[[], Snapshot],
        clock: Callable[[], float],
        engine_load: Callable[[str], str] | None = None,
        queue: Queue | None = None,
        decisions: Decisions | None = None,
    ) -> None:
        """`engine_load` describes the load of a model's engines for a worker of batches."""
        self._engine_load = engine_load
        self._placer = placer
        self._snapshot = snapshot
        self._clock = clock
        self._queue = queue
        self._decisions = decisions
        self._detail = Detail.NONE if decisions is None or not decisions.most else Detail.AT_HAND

    def place(self, ask: Place) -> Placed | Refused | Awaitable[Placed | Refused]:
        """Where the request may go, or why nowhere, or the wait for its turn or its model."""
        return self._attempt(ask, 0.0) if self._queue is None else self._queue.place(ask, self._attempt)

    def _attempt(self, ask: Place, queued: float) -> Placed | Refused:
        shows = self._decisions is not None and ask.caller.role is Role.ADMIN
        decision = self._placer.place(ask, self._snapshot(), Detail.FULL if shows else self._detail)
        if isinstance(decision, Problem):
            return Refused(decision)
        if self._decisions is not None:
            self._decisions.placed(ask.request_id, decision, queued)
        placement, load = decision.placement, self._engine_load
        return Placed(
            self._clock(), placement,
            (*decision.answer_headers, (DECISION, _shown(decision, queued))) if shows else decision.answer_headers,
            decision.response_id,
            None if load is None else partial(load, placement.model),
        )  # fmt: skip


def _shown(decision: Decision, queued: float) -> str:
    placement = decision.placement
    trail = decision.trail or NO_TRAIL
    return header(placement.strategy, placement.candidates, trail, placement.degraded, queued)
