"""Lets requests of batches start: for each model as many at once as its engines take beside their other traffic."""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aibrix_extproc.core.batches.concurrency import PER_ENGINE, Concurrency
from aibrix_extproc.core.batches.engine_load import EngineLoadReport

MAX_MODELS: Final = 256  # whose limits are remembered


class ModelGate:
    """The requests of one model: callers take turns, and those of one caller go in the order in which they ask."""

    def __init__(self, concurrency: Concurrency) -> None:
        self._concurrency = concurrency
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()  # by caller, the next one first
        self.running = 0

    @property
    def limit(self) -> float:
        """How many may run at once."""
        return self._concurrency.bound

    @asynccontextmanager
    async def place(self, caller: str) -> AsyncIterator[None]:
        """Wait for a place and hold it."""
        if self._concurrency.room(self.running) and not self._waiting:
            self.running += 1
        else:
            await self._wait(caller)
        try:
            yield
        finally:
            self.running -= 1
            self._admit()

    async def _wait(self, caller: str) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(caller, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # the place was given at the same moment
                self.running -= 1
                self._admit()
            raise

    def _admit(self) -> None:
        while self._waiting and self._concurrency.room(self.running):
            turn = self._next()
            if not turn.done():
                self.running += 1
                turn.set_result(None)

    def _next(self) -> asyncio.Future[None]:
        caller, turns = next(iter(self._waiting.items()))
        turn = turns.popleft()
        if turns:
            self._waiting.move_to_end(caller)
        else:
            del self._waiting[caller]
        return turn

    def reported(self, report: EngineLoadReport) -> None:
        """A gateway has described the model's engines."""
        self._concurrency.reported(time.monotonic(), report)

    def succeeded(self, seconds: float) -> None:
        """A request of this model was answered."""
        self._concurrency.succeeded(time.monotonic(), seconds, self.running)
        self._admit()

    def overloaded(self) -> None:
        """A request of this model was refused because there is too much."""
        self._concurrency.overloaded(time.monotonic())


class Gates:
    """One gate a model; those that nobody has used for longest are forgotten."""

    def __init__(self, per_engine: int = PER_ENGINE) -> None:
        """`per_engine`: how many of a model's requests run at once at most, for each of its engines."""
        self._per_engine = per_engine
        self._gates: OrderedDict[str, ModelGate] = OrderedDict()

    def of(self, model: str) -> ModelGate:
        """The gate of a model."""
        gate = self._gates.get(model)
        if gate is None:
            gate = self._gates[model] = ModelGate(Concurrency(per_engine=self._per_engine))
            self._forget()
        self._gates.move_to_end(model)
        return gate

    def items(self) -> list[tuple[str, ModelGate]]:
        """Every gate with its model."""
        return list(self._gates.items())

    def _forget(self) -> None:
        for name in list(self._gates)[: max(len(self._gates) - MAX_MODELS, 0)]:
            if not self._gates[name].running:
                del self._gates[name]
