"""Engines, a gateway and a worker of batches in simulated time, for `benchmarks.batch_scenarios`.

The limit of concurrency is the worker's own
(`core/batches/concurrency.py`). The engines are a model, so that the figures do not depend on the machine: each serves
prompts one after the other at a number of tokens a second, and decodes up to a number of sequences at once, a step of
which takes longer the more there are.
"""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from aibrix_extproc.core.batches.concurrency import PER_ENGINE, Concurrency
from aibrix_extproc.core.batches.engine_load import EngineLoadReport

ENGINES: Final = 2
PREFILL_TOKENS_A_SECOND: Final = 16_000.0
STEP_SECONDS: Final = 0.012  # of decoding, for one sequence
STEP_MORE_SECONDS: Final = 0.00025  # for each further one
MAX_SEQUENCES: Final = 128  # of one engine; what comes beyond waits
HALF: Final = 90.0  # seconds of a burst, and of the calm after it
CYCLES: Final = 4
BURST_RATE, CALM_RATE = 8.0, 0.5  # interactive requests a second
INTERACTIVE: Final = (1200, 120)  # tokens in and out, medians
BATCH: Final = (600, 60)
DECODE_TICK: Final = 0.05


@dataclass(slots=True)
class Request:
    """One request; times are simulated seconds."""

    batch: bool
    tokens_in: int
    tokens_out: int
    came: float
    first: float | None = None  # when its first token came
    left: float = 0.0  # tokens to decode


@dataclass(slots=True)
class Engine:
    """First come, first served for prompts; decoding shares the steps, and prompts wait while nobody may join."""

    waiting: list[Request] = field(default_factory=list)
    decoding: list[Request] = field(default_factory=list)
    prefilling: Request | None = None
    done_at: float = 0.0

    @property
    def load(self) -> int:
        """Requests that are with it."""
        return len(self.waiting) + len(self.decoding) + (self.prefilling is not None)


class World:
    """The engines, the gateway that picks the least loaded one, and the worker that sends lines."""

    def __init__(self, policy: "Policy", seed: int, *, interactive: bool) -> None:
        self.policy = policy
        self.now = 0.0
        self.engines = [Engine() for _ in range(ENGINES)]
        self.interactive: list[Request] = []
        self.lines_done: list[float] = []
        self._draw = random.Random(seed)
        self._line_draw = random.Random(seed + 1)
        self._running = 0
        self._others = 0
        self._arrivals = iter(_arrivals(self._draw)) if interactive else iter(())

    def run(self) -> None:
        """All cycles."""
        end = 2 * HALF * CYCLES
        arrival = next(self._arrivals, math.inf)
        while self.now < end:
            self.now += DECODE_TICK
            while arrival <= self.now:
                self._others += 1
                self._come(False, arrival, INTERACTIVE, self._draw)
                arrival = next(self._arrivals, math.inf)
            for engine in self.engines:
                self._advance(engine)
            self._send_lines()

    def _come(self, batch: bool, at: float, medians: tuple[int, int], draw: random.Random) -> None:
        tokens = [max(int(draw.lognormvariate(0.0, 0.6) * median), 1) for median in medians]
        request = Request(batch, tokens[0], tokens[1], at, left=float(tokens[1]))
        if not batch:
            self.interactive.append(request)
        min(self.engines, key=lambda one: one.load).waiting.append(request)

    def _send_lines(self) -> None:
        for _ in range(self.policy.room(self._running, self._others, self.now)):
            self._running += 1
            self._come(True, self.now, BATCH, self._line_draw)

    def _advance(self, engine: Engine) -> None:
        if engine.decoding:
            step = STEP_SECONDS + STEP_MORE_SECONDS * len(engine.decoding)
            made = DECODE_TICK / step
            for one in engine.decoding:
                one.left -= made
            for one in [one for one in engine.decoding if one.left <= 0]:
                engine.decoding.remove(one)
                self._finished(one)
        start = max(engine.done_at, self.now - DECODE_TICK)
        while True:
            if engine.prefilling is not None:
                if engine.done_at > self.now:
                    return
                engine.prefilling.first = engine.done_at
                engine.decoding.append(engine.prefilling)
                start, engine.prefilling = engine.done_at, None
            if not engine.waiting or len(engine.decoding) >= MAX_SEQUENCES:
                return
            if self.policy.engine_has_priorities:
                engine.waiting.sort(key=lambda one: one.batch)
            engine.prefilling = engine.waiting.pop(0)
            engine.done_at = max(start, engine.prefilling.came) + engine.prefilling.tokens_in / PREFILL_TOKENS_A_SECOND

    def _finished(self, request: Request) -> None:
        if not request.batch:
            self._others -= 1
            return
        self._running -= 1
        self.lines_done.append(self.now)
        self.policy.answered(self.now - request.came, self._running, self._others, self.now)


def _arrivals(draw: random.Random) -> Iterator[float]:
    at = 0.0
    while at < 2 * HALF * CYCLES:
        at += draw.expovariate(BURST_RATE if at % (2 * HALF) < HALF else CALM_RATE)
        yield at


class Policy:
    """How many lines run: none."""

    engine_has_priorities = False  # the engine takes interactive requests out of its queue first

    def room(self, running: int, others: int, now: float) -> int:
        """How many more may start."""
        return 0

    def answered(self, seconds: float, running: int, others: int, now: float) -> None:
        """A line was answered."""


class Fixed(Policy):
    """So many at once, whatever happens."""

    def __init__(self, most: int) -> None:
        self._most = most

    def room(self, running: int, others: int, now: float) -> int:
        """How many more may start."""
        return max(self._most - running, 0)


class Adaptive(Policy):
    """The worker's own limit, with or without what the gateway reports."""

    def __init__(self, *, reports: bool, engine_has_priorities: bool = False) -> None:
        self._limit = Concurrency(most=float(PER_ENGINE * ENGINES))
        self._reports = reports
        self.engine_has_priorities = engine_has_priorities

    def room(self, running: int, others: int, now: float) -> int:
        """How many more may start."""
        return self._limit.room(running)

    def answered(self, seconds: float, running: int, others: int, now: float) -> None:
        """The report comes with the answer, as in the worker."""
        if self._reports:
            self._limit.reported(now, EngineLoadReport("a", others, ENGINES))
        self._limit.succeeded(now, seconds, running)
