"""Wakes models that requests wait for, by one request to the metadata service for each. They wait in the queue.

Nothing here costs a request whose model is awake: placement comes here only with a refusal.
"""

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import msgspec

from aibrix_extproc.adapters.internal_api.client import InternalClient, MessageRefusedError, UnavailableError
from aibrix_extproc.app.fleet_store import FleetStore
from aibrix_extproc.app.parts.part import Meters, Part
from aibrix_extproc.core.control.demands import MAX_MODELS, WAKE_KIND, WAKE_PATH, WakeRequest, decode_answer
from aibrix_extproc.core.exchange.asks import Place, Refused
from aibrix_extproc.core.fleet.model import Health, Snapshot
from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.contract.operations import shown
from aibrix_extproc.core.operations.desired import DesiredAdapter
from aibrix_extproc.core.operations.policies import ModelPolicy

logger = logging.getLogger(__name__)

ASK_SECONDS: Final = 2.0  # between two requests to the service, while anybody waits
ANSWER_SECONDS: Final = 5.0


class Waking(Part):
    """`policies` and `adapters` are the live records of the control state."""

    name = "waking"

    def __init__(
        self, policies: Mapping[str, ModelPolicy], adapters: Mapping[str, DesiredAdapter], store: FleetStore,
        client: InternalClient, *, most: int,
    ) -> None:  # fmt: skip
        """`most`: requests that wait at once."""
        self._policies = policies
        self._adapters = adapters
        self._store = store
        self._client = client
        self._most = most
        self._waiting: Counter[str] = Counter()  # by model
        self._expected: dict[str, float] = {}  # seconds that a model takes to wake
        self._asked = asyncio.Event()

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

    @property
    def may_wait(self) -> bool:
        """Whether one more request may wait."""
        return self._waiting.total() < self._most

    @contextmanager
    def asking(self, demanded: str) -> Iterator[None]:
        """Ask for a wake, once for all that wait for it, as long as anybody does."""
        self._waiting[demanded] += 1
        self._asked.set()
        try:
            yield
        finally:
            self._waiting[demanded] -= 1
            if not self._waiting[demanded]:
                del self._waiting[demanded]

    def later(self, demanded: str, model: str, refused: Refused) -> Refused:
        """The refusal that says when to come again."""
        expected = self._expected.get(demanded)
        if expected is None and refused.problem.key == "model_not_ready":
            return refused
        seconds = str(math.ceil(expected)) if expected is not None else "5"
        return Refused(Problem("model_not_ready", {"model": shown(model)}, headers=(("retry-after", seconds),)))

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
