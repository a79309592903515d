"""The order in which waiting requests go: fair between callers by work done, not by requests.

Start-time fair queueing (Goyal, Vin, Cheng 1996) over callers, with work in place of packet lengths, as in VTC (Sheng
et al. 2024). Each caller has a virtual time, which grows by its work over its weight; the least one goes next. One that
comes after a pause starts at the virtual time of the line, so a pause earns nothing; once nobody waits, all are equal
again. Estimates of work are corrected when it is known. While two callers wait all the time, their work over weight
differs by no more than that of their largest requests.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, Final, final

from aibrix_extproc.core.routing.queue.classes import WEIGHTS, RequestClass

MAX_IDLE: Final = 4096  # callers that have nothing waiting and whose virtual time is still remembered


@final
class Ticket:
    """One waiting request. `work`: seconds of an engine, estimated; `size`: bytes that it holds; `request`: whose."""

    __slots__ = ("caller", "entered_at", "kind", "request", "retried", "size", "work")

    def __init__(
        self, caller: str, kind: RequestClass, work: float, size: int, entered_at: float, *,
        retried: bool = False, request: Any = None,
    ) -> None:  # fmt: skip
        self.caller = caller
        self.kind = kind
        self.work = work
        self.size = size
        self.entered_at = entered_at
        self.retried = retried
        self.request = request


class Line:
    """The waiting requests of one model. Requests of batches go after all others."""

    def __init__(self) -> None:
        self._flows: dict[str, _Flow] = {}  # by caller
        self._virtual = 0.0
        self.lengths: Counter[RequestClass] = Counter()
        self.size = 0  # bytes

    def __len__(self) -> int:
        return self.lengths.total()

    def __iter__(self) -> Iterator[Ticket]:
        for flow in self._flows.values():
            yield from flow.tickets()

    def has(self, caller: str, kind: RequestClass) -> bool:
        """Whether a request of this caller waits; for a batch, whether one of any batch does."""
        if kind is RequestClass.BATCH:
            return self.lengths[kind] > 0
        flow = self._flows.get(caller)
        return flow is not None and bool(flow.retried or flow.fresh)

    def enter(self, ticket: Ticket) -> None:
        """Put a ticket into its caller's place; retried requests go before the caller's others."""
        flow = self._flow(ticket.caller)
        if not flow.waits:
            flow.virtual = max(flow.virtual, self._virtual)
        flow.put(ticket)
        self.lengths[ticket.kind] += 1
        self.size += ticket.size

    def leave(self, ticket: Ticket) -> bool:
        """Take a ticket out, whether it has gone or given up; False if it is not in the line."""
        flow = self._flows.get(ticket.caller)
        if flow is None or not flow.take(ticket):
            return False
        self.lengths[ticket.kind] -= 1
        self.size -= ticket.size
        if not len(self):
            self._virtual = max(one.virtual for one in self._flows.values())
        return True

    def next(self, may: Callable[[str, RequestClass], bool]) -> Ticket | None:
        """Who goes next, out of those whose caller and class may; it stays in the line. None if nobody does."""
        return self._first(may, batch=False) or self._first(may, batch=True)

    def go(self, ticket: Ticket) -> None:
        """A ticket goes: it leaves the line, and its work counts."""
        flow = self._flow(ticket.caller)
        self._virtual = max(self._virtual, flow.virtual)
        self.worked(ticket.caller, ticket.kind, ticket.work)
        self.leave(ticket)

    def worked(self, caller: str, kind: RequestClass, work: float) -> None:
        """Count work of a caller; also what an estimate was short of, which is negative if it was too long."""
        self._flow(caller).virtual += work / WEIGHTS[kind]

    def last_batch(self) -> Ticket | None:
        """The request of a batch that came last: the first one to make room."""
        found = (one for flow in self._flows.values() for one in flow.batch.values())
        return max(found, key=lambda one: one.entered_at, default=None)

    def _first(self, may: Callable[[str, RequestClass], bool], *, batch: bool) -> Ticket | None:
        best: Ticket | None = None
        least = (0.0, 0.0)
        for flow in self._flows.values():
            first = flow.first(batch=batch)
            if first is None:
                continue
            key = flow.virtual, first.entered_at
            if (best is None or key < least) and may(first.caller, first.kind):
                best, least = first, key
        return best

    def _flow(self, caller: str) -> "_Flow":
        flow = self._flows.get(caller)
        if flow is None:
            if len(self._flows) >= MAX_IDLE:
                self._flows = {name: one for name, one in self._flows.items() if one.waits}
            flow = self._flows[caller] = _Flow(self._virtual)
        return flow


class _Flow:
    """The requests of one caller."""

    __slots__ = ("batch", "fresh", "retried", "virtual")

    def __init__(self, virtual: float) -> None:
        self.virtual = virtual
        self.retried: OrderedDict[int, Ticket] = OrderedDict()
        self.fresh: OrderedDict[int, Ticket] = OrderedDict()
        self.batch: OrderedDict[int, Ticket] = OrderedDict()

    @property
    def waits(self) -> bool:
        return bool(self.retried or self.fresh or self.batch)

    def tickets(self) -> Iterator[Ticket]:
        for part in (self.retried, self.fresh, self.batch):
            yield from part.values()

    def put(self, ticket: Ticket) -> None:
        self._part(ticket)[id(ticket)] = ticket

    def take(self, ticket: Ticket) -> bool:
        return self._part(ticket).pop(id(ticket), None) is not None

    def first(self, *, batch: bool) -> Ticket | None:
        for part in (self.batch,) if batch else (self.retried, self.fresh):
            if part:
                return next(iter(part.values()))
        return None

    def _part(self, ticket: Ticket) -> OrderedDict[int, Ticket]:
        if ticket.kind is RequestClass.BATCH:
            return self.batch
        return self.retried if ticket.retried else self.fresh
