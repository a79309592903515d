"""Lets prefill engines compute the prompts of requests that go to decode engines.

Whatever goes wrong, the request goes on: another prefill engine of the role set is asked, then the decode engine
computes the prompt itself. The client notices nothing but the time.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from aibrix_extproc.adapters.engine.prefill import PrefillClient, PrefillError, PrefillRefused
from aibrix_extproc.app.decisions import Decisions
from aibrix_extproc.app.parts.part import Meters, Part
from aibrix_extproc.core.exchange.asks import Place, Prefill, PrefillDone
from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.openai.wire.prefill import PrefillAnswer
from aibrix_extproc.core.openai.wire.usage import Usage
from aibrix_extproc.core.operations.targets import VLLM
from aibrix_extproc.core.routing.disaggregation.handover import LACKS, Handover, Prefilled, PrefillOutcome
from aibrix_extproc.core.routing.predictor import Ending, Predictor
from aibrix_extproc.settings.disaggregation import DisaggregationSettings, PrefillBy

logger = logging.getLogger(__name__)

LAST_WORD_SECONDS: Final = 0.3  # before Envoy's patience ends the request goes on without a prefill
LEAST_SECONDS: Final = 0.05  # an attempt that has less left is not made
MAX_TOLD: Final = 1000  # lacks that are logged once each


class Counts(Protocol):
    """The counters of prefills."""

    def prefilled(self, outcome: str, seconds: float) -> None:
        """Counts a decision about who computes a prompt; `seconds` is 0 where no prefill engine was asked."""

    def prefill_failed(self, reason: str) -> None:
        """A prefill engine did not compute a prompt."""


class Prefills(Part):
    """One for a process. `clock`: monotonic seconds, that of the exchanges."""

    name = "prefills"

    def __init__(
        self, settings: DisaggregationSettings, longest_wait_seconds: float, predictor: Predictor, load: LoadBook,
        decisions: Decisions, poll_soon: Callable[[str], None], *, counts: Counts, clock: Callable[[], float],
    ) -> None:  # fmt: skip
        """`longest_wait_seconds`: how long Envoy's message may wait. `poll_soon` polls an engine before its turn."""
        self._settings = settings
        self._longest = longest_wait_seconds - LAST_WORD_SECONDS
        self._predictor = predictor
        self._load = load
        self._decisions = decisions
        self._poll_soon = poll_soon
        self._counts = counts
        self._clock = clock
        self._running = 0
        self._client: PrefillClient | None = None  # with the first prefill
        self._told: set[tuple[str, str]] = set()  # an engine or a model, and what it lacks

    @property
    def by_sidecar(self) -> bool:
        """Whether the sidecars of decode engines ask the prefill engines."""
        return self._settings.prefill_by is PrefillBy.SIDECAR

    def not_asked(self, ask: Place, handover: Handover) -> None:
        """No prefill engine is asked by us for a request that was placed."""
        outcome = PrefillOutcome.SIDECAR if handover.engines else handover.outcome
        self._done(ask.request_id, ask.query.model, Prefilled(outcome))

    def prefill(self, ask: Prefill) -> PrefillDone | Awaitable[PrefillDone]:
        """The prompt is computed, or the request goes on without."""
        if not isinstance(ask.body, bytes):
            return self._without(ask, PrefillOutcome.UNSUITED)
        if not all(one.engine in VLLM for one in ask.handover.engines):
            return self._without(ask, PrefillOutcome.OTHER_ENGINE)
        if self._running >= self._settings.max_prefills:
            return self._without(ask, PrefillOutcome.BUSY)
        return self._prefill(ask, ask.body)

    def _without(self, ask: Prefill, outcome: PrefillOutcome) -> PrefillDone:
        self._done(ask.request_id, ask.query.model, Prefilled(outcome))
        return PrefillDone(self._clock())

    async def _prefill(self, ask: Prefill, body: bytes) -> PrefillDone:
        began = self._clock()
        ends_at = began + min(self._settings.prefill_seconds, self._longest - ask.waited_seconds)
        self._running += 1
        try:
            done, transfer = await self._ask_engines(ask, body, began, ends_at)
        finally:
            self._running -= 1
        self._done(ask.request_id, ask.query.model, done)
        return PrefillDone(self._clock(), transfer)

    async def _ask_engines(self, ask: Prefill, body: bytes, began: float, ends_at: float) -> tuple[Prefilled, bytes]:
        """One after the other; each gets half of the time that is left, the last one all of it."""
        engines = ask.handover.engines
        failures: list[tuple[str, str]] = []
        outcome = PrefillOutcome.FAILED
        for engine in engines:
            left = ends_at - self._clock()
            if left < LEAST_SECONDS:
                break
            try:
                answer = await self._ask(ask, engine, body, left if engine is engines[-1] else left / 2)
            except PrefillError as error:
                failures.append((engine.address, str(error)))
                self._failed(engine, str(error))
                if isinstance(error, PrefillRefused):
                    outcome = PrefillOutcome.REFUSED
                    break
                continue
            seconds, cached = self._clock() - began, answer.cached_tokens
            outcome = PrefillOutcome.REMOTE if answer.transfer else PrefillOutcome.NO_TRANSFER
            return Prefilled(outcome, engine, seconds, tuple(failures), cached), answer.transfer
        return Prefilled(outcome, None, self._clock() - began, tuple(failures)), b""

    async def _ask(self, ask: Prefill, engine: Endpoint, body: bytes, seconds: float) -> PrefillAnswer:
        """One attempt, which counts as load of the engine, and from which its speed and its cache are learned."""
        if self._client is None:
            self._client = PrefillClient()
        identity, predictor = engine.identity, self._predictor
        name = f"{ask.request_id}/prefill"
        self._load.acquire(identity)
        predictor.placed(name, ask.query, identity, self._clock())
        ending = Ending.LEFT
        try:
            answer = await self._client.send(engine, ask.path, body, ask.request_id, seconds)
            ending = Ending.SERVED
        except PrefillRefused:
            ending = Ending.REFUSED
            raise
        except PrefillError:
            ending = Ending.FAILED
            raise
        finally:
            self._load.release(identity)
            now = self._clock()
            predictor.finished(name, now, ending)
            if ending is Ending.LEFT:
                predictor.charged(name, None)
        usage = None
        if answer.prompt_tokens and answer.cached_tokens is not None:
            usage = Usage(answer.prompt_tokens, 0, answer.prompt_tokens, answer.cached_tokens)
        predictor.charged(name, usage, now, streamed=False)
        return answer

    def _failed(self, engine: Endpoint, reason: str) -> None:
        self._counts.prefill_failed(reason)
        self._tell(engine.name or engine.address, reason, "a prefill engine did not compute a prompt")
        if reason != "refused":
            self._poll_soon(engine.identity)

    def _done(self, request_id: str, model: str, done: Prefilled) -> None:
        self._decisions.prefilled(request_id, done)
        self._counts.prefilled(done.outcome.value, done.seconds)
        if done.outcome in LACKS:
            self._tell(model, done.outcome.value, "decode engines compute prompts themselves")

    def _tell(self, of: str, reason: str, what: str) -> None:
        if (of, reason) not in self._told and len(self._told) < MAX_TOLD:
            self._told.add((of, reason))
            logger.warning(what, extra={"of": of, "reason": reason})

    async def run(self) -> None:
        """Wait until cancelled, then close the connections."""
        try:
            await asyncio.Event().wait()
        finally:
            if self._client is not None:
                await self._client.close()

    def register(self, metrics: Meters) -> None:
        """A gauge of the prefills that run."""
        metrics.gauge("aibrix_extproc_prefills", lambda: self._running)
