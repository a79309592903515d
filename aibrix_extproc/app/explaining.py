"""Answers operators about placement: a decision that was made, or one that would be made now."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from aibrix_extproc.app.decisions import NO_TRAIL, Decisions
from aibrix_extproc.core.exchange import events
from aibrix_extproc.core.exchange.asks import Admitted, Place
from aibrix_extproc.core.exchange.machine import Exchange
from aibrix_extproc.core.exchange.outputs import Immediate, Output
from aibrix_extproc.core.exchange.policy import ExchangePolicy
from aibrix_extproc.core.fleet.model import Snapshot
from aibrix_extproc.core.openai.contract.errors import Problem, shape
from aibrix_extproc.core.placing import Caller
from aibrix_extproc.core.routing.place import Placer
from aibrix_extproc.core.routing.record import DecisionRecord, Detail
from aibrix_extproc.core.routing.record_page import page

Page = Mapping[str, Any]

DRY_RUN: Final = "dry-run"
DEFAULT_PATH: Final = "/v1/chat/completions"
MAX_LATEST: Final = 100


class Explainer:
    """Answers from the decisions that are kept, and by dry runs over the fleet of the moment."""

    def __init__(
        self, decisions: Decisions, placer: Placer, snapshot: Callable[[], Snapshot], policy: ExchangePolicy,
        wall_clock: Callable[[], float],
    ) -> None:  # fmt: skip
        self._decisions = decisions
        self._placer = placer
        self._snapshot = snapshot
        self._policy = policy
        self._wall_clock = wall_clock

    def find(self, request_id: str) -> Page | None:
        """The page of a decision; None if it is not kept here."""
        found = self._decisions.find(request_id)
        return None if found is None else page(found)

    def latest(self) -> Page:
        """Which decisions are kept, the newest first."""
        found = self._decisions.latest(MAX_LATEST)
        return {"kept": len(self._decisions), "decisions": [_line(one) for one in found]}

    def dry_run(self, path: str, headers: Mapping[str, str], body: bytes) -> tuple[bool, Page]:
        """The decision about a request, by the machine and the placement of real ones; it is not placed.

        `headers` are the request's own. The caller may do everything. False with the error that it would get.
        """
        asked = self._asked(path, headers, body)
        if isinstance(asked, Immediate):
            return False, msgspec.json.decode(asked.body)
        decision = self._placer.place(asked, self._snapshot(), Detail.FULL, dry=True)
        if isinstance(decision, Problem):
            return False, msgspec.json.decode(shape(decision, anthropic=False, request_id=DRY_RUN).body)
        placement = decision.placement
        record = DecisionRecord(
            request_id=DRY_RUN, wall_at=self._wall_clock(), model=placement.model, strategy=placement.strategy,
            candidates=placement.candidates, degraded=placement.degraded, trail=decision.trail or NO_TRAIL,
            outcome="not placed", handover=decision.handover,
        )  # fmt: skip
        return True, page(record)

    def _asked(self, path: str, headers: Mapping[str, str], body: bytes) -> Place | Immediate:
        """The machine's ask for a placement, or its refusal of the request before that."""
        exchange = Exchange(self._policy)
        now = self._wall_clock()
        head = {":method": "POST", ":path": path, "content-type": "application/json", **headers}
        outputs: tuple[Output, ...] = ()
        for event in (
            events.RequestHead(now, DRY_RUN, head, end_of_stream=False),
            Admitted(Caller("explain", engine_controls=True)),
            events.RequestBody(now, body, end_of_stream=True),
        ):
            outputs = exchange.receive(event)
            for output in outputs:
                if isinstance(output, Place | Immediate):
                    return output
        return _not_placed(path)


def _not_placed(path: str) -> Immediate:
    problem = Problem("not_found", {"message": f"POST {path} is answered without an engine."})
    shaped = shape(problem, anthropic=False, request_id=DRY_RUN)
    return Immediate(shaped.status, shaped.headers, shaped.body, DRY_RUN)


def _line(record: DecisionRecord) -> Page:
    whole = page(record)
    return {name: whole[name] for name in ("request_id", "at", "model", "strategy", "served_by", "outcome", "status")}
