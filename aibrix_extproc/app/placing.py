"""Places requests in the fleet of the moment; one that cannot be placed at once may wait."""

from collections.abc import Awaitable, Callable
from functools import partial

from msgspec.structs import replace

from aibrix_extproc.app.decisions import NO_TRAIL, Decisions
from aibrix_extproc.app.parts.prefills import Prefills
from aibrix_extproc.app.parts.queue import Queue
from aibrix_extproc.core.exchange.asks import Place, Placed, Refused
from aibrix_extproc.core.fleet.model import Snapshot
from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.contract.headers import DECISION, PREFILLER
from aibrix_extproc.core.openai.contract.operations import Role
from aibrix_extproc.core.routing.disaggregation.handover import Handover
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
        prefills: Prefills | None = None,
    ) -> None:
        """`engine_load` describes the load of a model's engines for a worker of batches."""
        self._engine_load = engine_load
        self._placer = placer
        self._snapshot = snapshot
        self._clock = clock
        self._queue = queue
        self._prefills = prefills
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
        placed = Placed(
            self._clock(), placement,
            (*decision.answer_headers, (DECISION, _shown(decision, queued))) if shows else decision.answer_headers,
            decision.response_id,
            None if load is None else partial(load, placement.model),
        )  # fmt: skip
        return placed if decision.handover is None else self._handed_over(ask, placed, decision.handover)

    def _handed_over(self, ask: Place, placed: Placed, handover: Handover) -> Placed:
        """With the prefill engines that we ask, or the one that the sidecar is told to ask."""
        prefills = self._prefills
        if prefills is None:
            return placed
        if handover.engines and not prefills.by_sidecar:
            return replace(placed, handover=handover)
        prefills.not_asked(ask, handover)
        if not handover.engines:
            return placed
        return replace(placed, engine_headers=((PREFILLER, handover.engines[0].address),))


def _shown(decision: Decision, queued: float) -> str:
    placement = decision.placement
    trail = decision.trail or NO_TRAIL
    return header(placement.strategy, placement.candidates, trail, placement.degraded, queued, decision.handover)
