"""Tells the predictor what happens to exchanges and to engines, and shows what it believes."""

import asyncio
from collections.abc import Callable, Iterable
from http import HTTPStatus

from aibrix_extproc.app.parts.part import Meters, Part
from aibrix_extproc.core.exchange.outputs import Assigned, Finished, Forwarded, Moved, Outcome
from aibrix_extproc.core.exchange.records import Charge
from aibrix_extproc.core.fleet.model import Endpoint, Health, Snapshot
from aibrix_extproc.core.openai.wire.usage import Usage
from aibrix_extproc.core.routing.predictor import Ending, Predictor
from aibrix_extproc.core.routing.sharing.others import OnCharge

# An engine that was one of these may have begun anew, with an empty cache. Sleep empties it at either level.
_EMPTIED = frozenset({Health.UNREACHABLE, Health.NOT_READY, Health.ASLEEP})


class Predicting(Part):
    """An observer of facts and charges. `is_needed`: whether any strategy asks for predictions."""

    name = "predictor"

    def __init__(
        self,
        predictor: Predictor,
        snapshot: Callable[[], Snapshot],
        clock: Callable[[], float],
        is_needed: Callable[[], bool],
        *,
        found_cached: Callable[[float, float], None] = lambda predicted, actual: None,
        missed: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        """`found_cached` is told predicted and real cached tokens, `missed` how wrong the time of a first token was."""
        self._predictor = predictor
        self._snapshot = snapshot
        self._clock = clock
        self._is_needed = is_needed
        self._found_cached = found_cached
        self._missed = missed
        self._pass_on: OnCharge | None = None

    def assigned(self, fact: Assigned) -> None:
        """An engine gets a request."""
        if fact.query is not None and not fact.prefill and self._is_needed():
            self._predictor.placed(fact.request_id, fact.query, fact.identity, self._clock())

    def forwarded(self, fact: Forwarded) -> None:
        """An engine gets a request after a prefill."""
        if fact.query is not None and self._is_needed():
            self._predictor.placed(
                fact.request_id, fact.query, fact.identity, self._clock(), transferred=fact.transferred
            )

    def moved(self, fact: Moved) -> None:
        """Another engine has it."""
        self._predictor.moved(fact.request_id, fact.to_identity, self._clock())

    def finished(self, fact: Finished) -> None:
        """The exchange is over."""
        self._predictor.finished(fact.request_id, fact.ended_at, _ending(fact), fact.response_at)

    def pass_on(self, charged: OnCharge) -> None:
        """Hand over the charges of requests that this process has not placed: Envoy sends them to any gateway."""
        self._pass_on = charged

    def charged(self, charge: Charge) -> None:
        """Learns from the cost of an exchange, or passes it on to the process that placed it."""
        streamed = charge.end is not None
        if self._pass_on is not None and not self._predictor.expects(charge.request_id):
            self._pass_on(charge.request_id, charge.usage, charge.first_seconds, streamed)
        else:
            self.learn(charge.request_id, charge.usage, charge.first_seconds, streamed)

    def learn(self, request_id: str, usage: Usage | None, after_head: float | None, streamed: bool) -> None:
        """Learn from what a request cost, if it is one of ours."""
        audit = self._predictor.audit
        before = audit.predicted_tokens, audit.actual_tokens
        late = self._predictor.charged(request_id, usage, after_head=after_head, streamed=streamed)
        after = audit.predicted_tokens, audit.actual_tokens
        if after != before:
            self._found_cached(after[0] - before[0], after[1] - before[1])
        if late is not None:
            self._missed(abs(late))

    def on_changes(self, pairs: Iterable[tuple[Endpoint | None, Endpoint | None]], _: object) -> None:
        """Forget engines that are gone, and the caches of those that have lost them."""
        for before, after in pairs:
            if before is None:
                continue
            if after is None:
                self._predictor.forget(before.identity)
            elif before.weight_version != after.weight_version or (
                before.health in _EMPTIED and after.health is not before.health
            ):
                self._predictor.cleared(before.identity)

    def renewed(self, identity: str) -> None:
        """An operation has changed an engine, perhaps its cache or its weights."""
        self._predictor.cleared(identity)

    async def run(self) -> None:
        """Waits until it is cancelled: the part works on facts and charges alone."""
        await asyncio.Event().wait()

    def register(self, metrics: Meters) -> None:
        """Gauges of learned speeds and of the prefix index."""
        index = self._predictor.index
        metrics.gauges("aibrix_extproc_engine_speed_tokens_per_second", self._speeds)
        metrics.gauge("aibrix_extproc_index_blocks", lambda: len(index))

    def _speeds(self) -> list[tuple[str, float]]:
        speeds = dict(self._predictor.speeds.known())
        if not speeds:
            return []
        return [
            (one.address, speeds[one.identity])
            for one in self._snapshot().endpoints
            if one.address and one.identity in speeds
        ]


def _ending(fact: Finished) -> Ending:
    if fact.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Ending.FAILED
    if fact.outcome is Outcome.ENGINE_ERROR:
        return Ending.REFUSED
    return Ending.LEFT if fact.outcome is Outcome.CANCELLED else Ending.SERVED
