"""The work of requests as the queue counts it: estimated when they come, corrected by their charges."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from aibrix_extproc.core.exchange.records import Charge
from aibrix_extproc.core.routing.queue.classes import RequestClass, class_of
from aibrix_extproc.core.routing.queue.model_queue import ModelQueue
from aibrix_extproc.core.routing.queue.work import WorkEstimates
from aibrix_extproc.core.routing.request import Place

MAX_OPEN: Final = 10_000  # requests whose charge is waited for


class QueueWork:
    """`queues` are those of the process, by model."""

    def __init__(self, queues: Mapping[str, ModelQueue]) -> None:
        self._queues = queues
        self._estimates = WorkEstimates()
        self._open: OrderedDict[str, tuple[RequestClass, float]] = OrderedDict()  # by request id

    def estimated(self, ask: Place) -> float:
        """Seconds of an engine for a request that waits; its charge corrects the caller's account."""
        query = ask.query
        work = self._estimates.estimated(ask.caller.name, query.prompt_bytes, query.max_tokens)
        self._open[ask.request_id] = class_of(ask.caller, batch=ask.batch), work
        if len(self._open) > MAX_OPEN:
            self._open.popitem(last=False)
        return work

    def charged(self, charge: Charge) -> None:
        """Learn from a charge."""
        if charge.usage is None:
            self._open.pop(charge.request_id, None)
            return
        actual = self._estimates.learn(charge.caller, charge.bytes_in, charge.usage)
        known = self._open.pop(charge.request_id, None)
        queue = self._queues.get(charge.model)
        if known is not None and queue is not None and queue.line:
            kind, work = known
            queue.line.worked(charge.caller, kind, actual - work)
