"""The last decisions of this process, with what came of them: bounded, in memory, for `explain`.

What happens to a request only puts a few values into its entry. A record is made of them when somebody looks. Thousands
of entries are kept, so each takes memory that no cache has any more: facts and charges are not kept whole, and the
garbage collector does not look at entries.
"""

from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Final

import msgspec

from aibrix_extproc.core.exchange.outputs import Finished
from aibrix_extproc.core.exchange.records import Charge
from aibrix_extproc.core.openai.wire.usage import Usage
from aibrix_extproc.core.routing.disaggregation.handover import Prefilled
from aibrix_extproc.core.routing.place import Decision
from aibrix_extproc.core.routing.record import DecisionRecord, Trail

MAX_VALUES: Final = 1_000_000  # numbers in all trails together, at most 32 MB; the oldest decisions make room
NO_TRAIL: Final = Trail(0, -1)


class _Entry(msgspec.Struct, gc=False):
    request_id: str
    decision: Decision
    wall_at: float
    queue_seconds: float
    values: int
    served_by: str | None = None  # None while the exchange runs
    status: int = 0
    outcome: str = ""
    head_seconds: float | None = None
    usage: Usage | None = None
    first_seconds: float | None = None  # of a stream, from its head
    prefilled: Prefilled | None = None


class Decisions:
    """Keeps `most` decisions; none if it is 0. `wall_clock`: seconds since the epoch.

    `count` is called for each decision with its strategy and who named it.
    """

    def __init__(
        self,
        most: int,
        wall_clock: Callable[[], float],
        count: Callable[[str, str], None] = lambda strategy, reason: None,
    ) -> None:
        self.most = most
        self._count = count
        self._wall_clock = wall_clock
        self._entries: dict[str, _Entry] = {}  # by request id; a client that repeats one has the last
        self._order: deque[_Entry] = deque()  # as they were made, with those that were replaced
        self._values = 0

    def __len__(self) -> int:
        return len(self._entries)

    def placed(self, request_id: str, decision: Decision, queue_seconds: float) -> None:
        """A request was placed."""
        trail = decision.trail
        if not self.most or trail is None:
            return
        self._count(decision.placement.strategy, trail.reason)
        values = len(trail.endpoints) * (len(trail.parts) + len(trail.numbers))
        entry = _Entry(request_id, decision, self._wall_clock(), queue_seconds, values)
        self._entries[request_id] = entry
        self._order.append(entry)
        self._values += values
        while len(self._order) > self.most or (self._values > MAX_VALUES and len(self._order) > 1):
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        oldest = self._order.popleft()
        self._values -= oldest.values
        if self._entries.get(oldest.request_id) is oldest:
            del self._entries[oldest.request_id]

    def prefilled(self, request_id: str, done: Prefilled) -> None:
        """Adds to a decision who computed the prompt."""
        entry = self._entries.get(request_id)
        if entry is not None:
            entry.prefilled = done

    def finished(self, fact: Finished) -> None:
        """The exchange is over."""
        entry = self._entries.get(fact.request_id)
        if entry is None:
            return
        entry.served_by, entry.status, entry.outcome = fact.assigned_to or "", fact.status, fact.outcome
        if fact.response_at is not None and fact.placed_at is not None:
            entry.head_seconds = fact.response_at - fact.placed_at

    def charged(self, charge: Charge) -> None:
        """Adds to a decision what the exchange cost."""
        entry = self._entries.get(charge.request_id)
        if entry is not None:
            entry.usage, entry.first_seconds = charge.usage, charge.first_seconds

    def find(self, request_id: str) -> DecisionRecord | None:
        """The record of a request; None if it was not placed here, or too long ago."""
        entry = self._entries.get(request_id)
        return None if entry is None else _record(entry)

    def latest(self, count: int) -> list[DecisionRecord]:
        """The last ones, the newest first."""
        kept = (one for one in reversed(self._order) if self._entries.get(one.request_id) is one)
        return [_record(one) for one in islice(kept, count)]


def _record(entry: _Entry) -> DecisionRecord:
    decision, usage, head = entry.decision, entry.usage, entry.head_seconds
    placement = decision.placement
    first = None  # of a stream; its head comes at once
    if head is not None and entry.first_seconds is not None:
        first = head + entry.first_seconds
    return DecisionRecord(
        request_id=entry.request_id,
        wall_at=entry.wall_at,
        model=placement.model,
        strategy=placement.strategy,
        candidates=placement.candidates,
        degraded=placement.degraded,
        trail=decision.trail or NO_TRAIL,
        queue_seconds=entry.queue_seconds,
        served_by=placement.first.identity if entry.served_by is None else entry.served_by,
        status=entry.status,
        outcome=entry.outcome,
        head_seconds=head,
        ttft_seconds=first,
        prompt_tokens=None if usage is None else usage.input_tokens,
        cached_tokens=None if usage is None else usage.cached_tokens,
        handover=decision.handover,
        prefilled=entry.prefilled,
    )
