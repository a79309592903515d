"""Requests for sleeping models wait here, while the metadata service is asked once to wake each model.

Nothing here costs a request whose model is awake: placement comes here only with a refusal.
"""

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from aibrix_extproc.adapters.internal_api.client import InternalClient, MessageRefusedError, UnavailableError
from aibrix_extproc.app.fleet_store import FleetStore
from aibrix_extproc.app.parts.part import Meters, Part
from aibrix_extproc.core.control.demands import MAX_MODELS, WAKE_KIND, WAKE_PATH, WakeRequest, decode_answer
from aibrix_extproc.core.exchange.asks import Place, Placed, Refused
from aibrix_extproc.core.fleet.model import Health, Snapshot
from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.contract.operations import shown
from aibrix_extproc.core.operations.desired import DesiredAdapter
from aibrix_extproc.core.operations.policies import ModelPolicy

logger = logging.getLogger(__name__)

ASK_SECONDS: Final = 2.0  # between two requests to the service, while anybody waits
ANSWER_SECONDS: Final = 5.0
LOOK_SECONDS: Final = 1.0  # a placement is tried again so often even if the fleet does not change
LAST_WORD_SECONDS: Final = 0.3  # before the handler's deadline a waiting request is refused with what is known

Attempt = Callable[[Place], Placed | Refused]


class Waking(Part):
    """`policies` and `adapters` are the live records of the control state."""

    name = "waking"

    def __init__(
        self, policies: Mapping[str, ModelPolicy], adapters: Mapping[str, DesiredAdapter], store: FleetStore,
        client: InternalClient, *, seconds: float, most: int,
    ) -> None:  # fmt: skip
        """`seconds`: how long a request may wait. `most`: requests that wait at once."""
        self._policies = policies
        self._adapters = adapters
        self._store = store
        self._client = client
        self._seconds = max(seconds - LAST_WORD_SECONDS, 0.0)
        self._most = most
        self._waiting: Counter[str] = Counter()  # by model
        self._expected: dict[str, float] = {}  # seconds that a model takes to wake
        self._asked = asyncio.Event()
        self._changed = asyncio.Event()
        store.subscribe(self._on_snapshot)

    def demanded(self, ask: Place, problem: Problem) -> str | None:
        """The model or adapter whose wake may help a refused request; None if none does."""
        if not (self._policies or self._adapters):
            return None
        model, fleet = ask.query.model, self._store.snapshot
        if problem.key == "model_not_ready":
            return self._sleeping(model, fleet)
        adapter = self._adapters.get(model) if problem.key == "model_not_found" else None
        is_lazy = adapter is not None and adapter.lazy and adapter.base in fleet.by_model
        return model if is_lazy and ask.caller.may_use_model(model) else None

    def _sleeping(self, model: str, fleet: Snapshot) -> str | None:
        """The policy's model, if an engine of the requested one sleeps or is put to sleep."""
        for endpoint in fleet.by_model.get(model, ()):
            if endpoint.health is not Health.ASLEEP and not endpoint.cordon:
                continue
            for served in endpoint.models:
                policy = self._policies.get(served.id)
                if policy is not None and policy.wake_on_request:
                    return policy.model
        return None

    async def wait(self, ask: Place, demanded: str, attempt: Attempt, refused: Refused) -> Placed | Refused:
        """The placement once the model is awake, or the refusal that says when to come again."""
        if self._waiting.total() >= self._most:
            return self._later(demanded, ask.query.model, refused)
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + self._seconds
        self._waiting[demanded] += 1
        self._asked.set()
        try:
            while (left := ends_at - loop.time()) > 0:
                await self._next(min(left, LOOK_SECONDS))
                answer = attempt(ask)
                if isinstance(answer, Placed):
                    return answer
                if self.demanded(ask, answer.problem) is None:
                    return answer  # waiting helps no more
            return self._later(demanded, ask.query.model, refused)
        finally:
            self._waiting[demanded] -= 1
            if not self._waiting[demanded]:
                del self._waiting[demanded]

    async def _next(self, seconds: float) -> None:
        """Wait for another snapshot."""
        changed = self._changed
        try:
            async with asyncio.timeout(seconds):
                await changed.wait()
        except TimeoutError:
            pass

    def _later(self, demanded: str, model: str, refused: Refused) -> Refused:
        expected = self._expected.get(demanded)
        if expected is None and refused.problem.key == "model_not_ready":
            return refused
        seconds = str(math.ceil(expected)) if expected is not None else "5"
        return Refused(Problem("model_not_ready", {"model": shown(model)}, headers=(("retry-after", seconds),)))

    def _on_snapshot(self, _: Snapshot) -> None:
        if self._waiting:
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()

    async def run(self) -> None:
        """Ask for what is waited for, until cancelled."""
        try:
            while True:
                await self._asked.wait()
                self._asked.clear()
                while models := tuple(self._waiting)[:MAX_MODELS]:
                    await self._ask(models)
                    try:
                        async with asyncio.timeout(ASK_SECONDS):
                            await self._new_model(models)
                    except TimeoutError:
                        pass
        finally:
            await self._client.close()

    async def _new_model(self, asked: tuple[str, ...]) -> None:
        """Wait until somebody waits for another model."""
        while self._waiting.keys() <= set(asked):
            self._asked.clear()
            await self._asked.wait()

    async def _ask(self, models: tuple[str, ...]) -> None:
        try:
            content = await self._client.post(
                WAKE_PATH, WAKE_KIND, msgspec.json.encode(WakeRequest(models)), ANSWER_SECONDS
            )
            self._expected.update(decode_answer(content).seconds)
        except (UnavailableError, MessageRefusedError, ValueError) as error:
            logger.warning("nobody was asked to wake engines", extra={"models": models[:8], "error": str(error)[:300]})
        if len(self._expected) > MAX_MODELS:
            self._expected.clear()

    def register(self, metrics: Meters) -> None:
        """Requests that wait."""
        metrics.gauge("aibrix_extproc_waiting_for_wake", self._waiting.total)
