"""The last decisions of this process, with what came of them: bounded, in memory, for `explain`.

What happens to a request only puts references into its entry. A record is made of them when somebody looks.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from aibrix_extproc.core.exchange.outputs import Finished
from aibrix_extproc.core.exchange.records import Charge
from aibrix_extproc.core.routing.disaggregation.handover import Prefilled
from aibrix_extproc.core.routing.place import Decision
from aibrix_extproc.core.routing.record import DecisionRecord, Trail

MAX_VALUES: Final = 1_000_000  # numbers in all trails together, about 32 MB; the oldest decisions make room
NO_TRAIL: Final = Trail(0, -1)


class _Entry:
    __slots__ = ("charge", "decision", "finished", "prefilled", "queue_seconds", "values", "wall_at")

    def __init__(self, decision: Decision, wall_at: float, queue_seconds: float, values: int) -> None:
        self.decision = decision
        self.wall_at = wall_at
        self.queue_seconds = queue_seconds
        self.values = values
        self.finished: Finished | None = None
        self.charge: Charge | None = None
        self.prefilled: Prefilled | None = None


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
        self._entries: OrderedDict[str, _Entry] = OrderedDict()  # by request id; a client that repeats one has the last
        self._values = 0

    def __len__(self) -> int:
        return len(self._entries)

    def placed(self, request_id: str, decision: Decision, queue_seconds: float) -> None:
        """A request was placed."""
        trail = decision.trail
        if not self.most or trail is None:
            return
        self._count(decision.placement.strategy, trail.reason)
        entries = self._entries
        values = len(trail.endpoints) * (len(trail.parts) + len(trail.details))
        before = entries.pop(request_id, None)
        entries[request_id] = _Entry(decision, self._wall_clock(), queue_seconds, values)
        self._values += values if before is None else values - before.values
        while len(entries) > self.most or (self._values > MAX_VALUES and len(entries) > 1):
            self._values -= entries.popitem(last=False)[1].values

    def prefilled(self, request_id: str, done: Prefilled) -> None:
        """Adds to a decision who computed the prompt."""
        entry = self._entries.get(request_id)
        if entry is not None:
            entry.prefilled = done

    def finished(self, fact: Finished) -> None:
        """The exchange is over."""
        entry = self._entries.get(fact.request_id)
        if entry is not None:
            entry.finished = fact

    def charged(self, charge: Charge) -> None:
        """Adds to a decision what the exchange cost."""
        entry = self._entries.get(charge.request_id)
        if entry is not None:
            entry.charge = charge

    def find(self, request_id: str) -> DecisionRecord | None:
        """The record of a request; None if it was not placed here, or too long ago."""
        entry = self._entries.get(request_id)
        return None if entry is None else _record(request_id, entry)

    def latest(self, count: int) -> list[DecisionRecord]:
        """The last ones, the newest first."""
        newest = [key for key, _ in zip(reversed(self._entries), range(count), strict=False)]
        return [_record(key, self._entries[key]) for key in newest]


def _record(request_id: str, entry: _Entry) -> DecisionRecord:
    decision, fact, charge = entry.decision, entry.finished, entry.charge
    placement = decision.placement
    usage = None if charge is None else charge.usage
    head = None
    if fact is not None and fact.response_at is not None and fact.placed_at is not None:
        head = fact.response_at - fact.placed_at
    first = None  # of a stream; its head comes at once
    if head is not None and charge is not None and charge.first_seconds is not None:
        first = head + charge.first_seconds
    return DecisionRecord(
        request_id=request_id,
        wall_at=entry.wall_at,
        model=placement.model,
        strategy=placement.strategy,
        candidates=placement.candidates,
        degraded=placement.degraded,
        trail=decision.trail or NO_TRAIL,
        queue_seconds=entry.queue_seconds,
        served_by=placement.first.identity if fact is None else fact.assigned_to or "",
        status=0 if fact is None else fact.status,
        outcome="" if fact is None else fact.outcome.value,
        head_seconds=head,
        ttft_seconds=first,
        prompt_tokens=None if usage is None else usage.input_tokens,
        cached_tokens=None if usage is None else usage.cached_tokens,
        handover=decision.handover,
        prefilled=entry.prefilled,
    )
