"""Models of engines in simulated time: one prompt after the other, and continuous batching.

Both take requests as they come and tell when first tokens and ends are due. A model has no clock: the simulation calls
`advance` at `due`, the time of its next event.
"""

import math
from collections import deque
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from typing import Final, Protocol

from aibrix_extproc.replay.cache import BlockCache
from aibrix_extproc.replay.paged_cache import PagedCache
from aibrix_extproc.replay.trace import Request

NEVER: Final = math.inf


@dataclass(frozen=True, slots=True)
class EngineShape:
    """How fast an engine is, and how much it holds. The defaults are those of the figures in docs/routing.md."""

    prefill_tokens_per_second: float = 16_000.0
    cache_tokens: int = 2_000_000
    step_tokens: int = 8_192  # that one step computes at most, as vLLM's max_num_batched_tokens
    step_seconds: float = 0.012  # of a step with nothing in it
    sequence_seconds: float = 0.00025  # that each decoding sequence adds to a step
    max_sequences: int = 256
    joins_at: float = 0.0  # seconds; nobody knows of it before
    cold_seconds: float = 0.0  # after that, in which it is slower: kernels are compiled, graphs captured
    cold_factor: float = 1.0  # how many times

    def factor(self, now: float) -> float:
        """How many times longer a step takes now."""
        return self.cold_factor if now < self.joins_at + self.cold_seconds else 1.0

    def slower(self, factor: float) -> "EngineShape":
        """The same engine, so many times slower in all it does."""
        return replace(
            self,
            prefill_tokens_per_second=self.prefill_tokens_per_second / factor,
            step_seconds=self.step_seconds * factor,
            sequence_seconds=self.sequence_seconds * factor,
        )


class Visit:
    """The stay of one request at one engine. Times are simulated seconds."""

    __slots__ = ("arrived", "cached_tokens", "ends_at_step", "finished", "first_token", "left", "number", "request")

    def __init__(self, number: int, request: Request, arrived: float) -> None:
        self.number = number
        self.request = request
        self.arrived = arrived
        self.cached_tokens = 0
        self.left = 0  # prompt tokens to compute
        self.ends_at_step = 0
        self.first_token = NEVER
        self.finished = NEVER

    def __lt__(self, other: "Visit") -> bool:
        return self.ends_at_step < other.ends_at_step


class EngineModel(Protocol):
    """An engine. `due`: when `advance` is to be called next."""

    due: float
    capacity: int  # blocks that its cache has
    block_tokens: int
    joins_at: float
    first_tokens: int  # requests that have had one

    def arrive(self, visit: Visit) -> None:
        """A request comes, at `visit.arrived`."""
        ...

    def advance(self) -> list[Visit]:
        """Pass `due`; the visits whose first token came then, or which ended."""
        ...

    @property
    def waiting(self) -> int:
        """Requests that have not begun."""
        ...

    @property
    def running(self) -> int:
        """Requests that have begun."""
        ...

    @property
    def cache_usage(self) -> float:
        """The part of the cache that requests hold, 0 to 1."""
        ...


class PrefillQueue:
    """An engine that computes one prompt after the other; decoding takes no time."""

    def __init__(self, shape: EngineShape, block_tokens: int) -> None:
        self._speed = shape.prefill_tokens_per_second
        self.joins_at = shape.joins_at
        self.capacity = shape.cache_tokens // block_tokens
        self.block_tokens = block_tokens
        self._cache = BlockCache(self.capacity, block_tokens)
        self.due = NEVER
        self.first_tokens = 0
        self._queue: deque[Visit] = deque()

    @property
    def waiting(self) -> int:
        """All but the one that is computed."""
        return max(len(self._queue) - 1, 0)

    @property
    def running(self) -> int:
        """One, or none."""
        return min(len(self._queue), 1)

    @property
    def cache_usage(self) -> float:
        """By the prompt that is computed."""
        tokens = self._queue[0].request.prompt_tokens if self._queue else 0
        return min(tokens / (self.capacity * self.block_tokens), 1.0)

    def arrive(self, visit: Visit) -> None:
        """Queue it."""
        self._queue.append(visit)
        if len(self._queue) == 1:
            self._begin(visit.arrived)

    def advance(self) -> list[Visit]:
        """The first of the queue is done."""
        visit = self._queue.popleft()
        visit.first_token = visit.finished = self.due
        self.first_tokens += 1
        self._cache.insert(visit.request.blocks)
        self._begin(self.due)
        return [visit]

    def _begin(self, now: float) -> None:
        if not self._queue:
            self.due = NEVER
            return
        visit, request = self._queue[0], self._queue[0].request
        visit.cached_tokens = self._cache.match(request.blocks, request.prompt_tokens)
        self.due = now + (request.prompt_tokens - visit.cached_tokens) / self._speed


class BatchingEngine:
    """An engine with continuous batching and chunked prefill, as vLLM's scheduler.

    A step has a budget of tokens. Decoding sequences take one each, then prompts take what is left, in their order;
    several may share a step, and a long one takes several. Steps in which nothing changes are passed at once. A request
    that does not fit into the cache beside those that run waits, and so do those behind it.
    """

    def __init__(self, shape: EngineShape, block_tokens: int) -> None:
        self._shape = shape
        self.joins_at = shape.joins_at
        self.capacity = shape.cache_tokens // block_tokens
        self.block_tokens = block_tokens
        self._cache = PagedCache(self.capacity, block_tokens)
        self.due = NEVER
        self.first_tokens = 0
        self._queue: deque[Visit] = deque()
        self._prefilling: list[Visit] = []
        self._decoding: list[Visit] = []  # a heap by the step of their end
        self._step = 0  # steps done
        self._began = 0.0  # when the steps that run began
        self._steps = 0  # how many they are
        self._each = 0.0  # seconds of one of them
        self._chunks: list[tuple[Visit, int]] = []  # what each of them computes of prompts

    @property
    def waiting(self) -> int:
        """Requests that have not been admitted."""
        return len(self._queue)

    @property
    def running(self) -> int:
        """Requests that are prefilled or decode."""
        return len(self._prefilling) + len(self._decoding)

    @property
    def cache_usage(self) -> float:
        """By the blocks that requests hold."""
        return min(self._cache.held / self.capacity, 1.0)

    def arrive(self, visit: Visit) -> None:
        """Queue it; it joins at the next step."""
        self._queue.append(visit)
        if self.due == NEVER:
            self._plan(visit.arrived)
        elif self._steps > 1 and not self._chunks:
            done = max(math.ceil((visit.arrived - self._began) / self._each), 1)
            self._steps = min(done, self._steps)
            self.due = self._began + self._steps * self._each

    def advance(self) -> list[Visit]:
        """The steps that ran are done."""
        now = self.due
        self._step += self._steps
        told: list[Visit] = []
        while self._decoding and self._decoding[0].ends_at_step <= self._step:
            told.append(self._end(heappop(self._decoding), now))
        for visit, tokens in self._chunks:
            visit.left -= tokens * self._steps
            if visit.left <= 0:
                self._prefilling.remove(visit)
                self._first_token(visit, now)
                told.append(visit)
        self._plan(now)
        return told

    def _first_token(self, visit: Visit, now: float) -> None:
        visit.first_token = now
        self.first_tokens += 1
        self._cache.computed(visit.request.blocks)
        more = visit.request.output_tokens - 1
        if more <= 0:
            self._end(visit, now)
            return
        visit.ends_at_step = self._step + more
        heappush(self._decoding, visit)

    def _end(self, visit: Visit, now: float) -> Visit:
        visit.finished = now
        self._cache.release(visit.request.blocks, _tokens(visit.request))
        return visit

    def _plan(self, now: float) -> None:
        """Decide what the next steps compute."""
        shape = self._shape
        sequences = len(self._decoding)
        room = max(shape.step_tokens - sequences, 1)
        self._chunks = []
        for visit in self._prefilling:
            room = self._take(visit, room)
        while room > 0 and self._queue and self._fits(self._queue[0]):
            room = self._take(self._admit(), room)
        if not self._chunks and not sequences:
            self.due = NEVER
            return
        self._steps = self._unchanged_steps()
        prefill = sum(tokens for _, tokens in self._chunks)
        self._began = now
        seconds = shape.step_seconds + shape.sequence_seconds * sequences + prefill / shape.prefill_tokens_per_second
        self._each = seconds * shape.factor(now)
        self.due = now + self._steps * self._each

    def _take(self, visit: Visit, room: int) -> int:
        tokens = min(visit.left, room)
        if tokens > 0:
            self._chunks.append((visit, tokens))
        return room - tokens

    def _unchanged_steps(self) -> int:
        steps = self._decoding[0].ends_at_step - self._step if self._decoding else 1 << 30
        if self._chunks:
            visit, tokens = self._chunks[0]
            # A prompt that fills the step alone does so until its last chunk; any other one changes the next step.
            steps = min(steps, max(visit.left // tokens, 1) if len(self._chunks) == 1 and visit.left > tokens else 1)
        return max(steps, 1)

    def _fits(self, visit: Visit) -> bool:
        if not self.running:
            return True
        request = visit.request
        return self.running < self._shape.max_sequences and self._cache.has_room(request.blocks, _tokens(request))

    def _admit(self) -> Visit:
        visit = self._queue.popleft()
        request = visit.request
        visit.cached_tokens = self._cache.match(request.blocks, request.prompt_tokens)
        visit.left = request.prompt_tokens - visit.cached_tokens
        self._cache.hold(request.blocks, _tokens(request))
        self._prefilling.append(visit)
        return visit


def _tokens(request: Request) -> int:
    """That a request holds at its end."""
    return request.prompt_tokens + request.output_tokens
