"""The engine: lets requests run when there is room, at the pace of the latency model.

The words of an answer are known before (script.py); this module only decides when how many of them are
there, and keeps the books: queue, blocks, prefix cache, pause and sleep, metrics.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from typing import Final

from aibrix_extproc.simulator.engine_gauges import engine_gauges
from aibrix_extproc.simulator.errors import busy, generation_paused
from aibrix_extproc.simulator.kv_transfer import TakenOver, Transfers
from aibrix_extproc.simulator.metrics import Metrics
from aibrix_extproc.simulator.models import ServedModels
from aibrix_extproc.simulator.options import VERSIONS, SimulatorOptions
from aibrix_extproc.simulator.prefix_cache import PrefixCache
from aibrix_extproc.simulator.scheduler import Claim, Scheduler

_EVERYTHING: Final = 1 << 60


@dataclass(frozen=True, slots=True)
class Job:
    """The facts of a request that the engine needs."""

    prompt: bytes
    prompt_tokens: int
    lengths: tuple[int, ...]
    """Output tokens of each choice."""
    finish_reasons: tuple[str, ...]
    output: bytes = b""
    """What the first choice says: its blocks are cached for the next turn."""
    max_tokens: int = 0
    adapter: str = ""
    cache_salt: str = ""
    itl_seconds: float = 0.0
    tokens_per_write: int = 0
    priority: int = 0
    taken_over: TakenOver | None = None
    """Another engine has computed the prompt."""

    @property
    def paced(self) -> bool:
        """Whether the answer comes in more than one piece."""
        return bool(self.itl_seconds or self.tokens_per_write)


class Ticket:
    """One request's stay in the engine."""

    __slots__ = (
        "aborted",
        "arrived_at",
        "blocks",
        "cached_tokens",
        "complete",
        "first_token_at",
        "job",
        "name",
        "released",
        "started",
        "started_at",
        "wake",
    )

    def __init__(self, job: Job, arrived_at: float, started: asyncio.Future[None], name: str = "") -> None:
        self.job = job
        self.name = name
        self.arrived_at = arrived_at
        self.started = started
        self.started_at = arrived_at
        self.first_token_at = 0.0
        self.blocks: list[int] = []
        self.cached_tokens = 0
        self.aborted = False
        self.complete = False
        self.released = False
        self.wake: asyncio.Future[None] | None = None

    def finish_reason(self, choice: int) -> str:
        """How a choice ended."""
        return "abort" if self.aborted else self.job.finish_reasons[choice]


class Engine:
    """One engine process's state; must be made inside of the event loop."""

    def __init__(self, options: SimulatorOptions) -> None:
        self.options = options
        self.started_at_wall = time.time()
        self.models = ServedModels(options)
        self.transfers = Transfers(options)
        self.cache = PrefixCache(options.block_size, options.num_blocks)
        self.scheduler = Scheduler(options.max_num_seqs, options.num_blocks, options.max_loras)
        self.metrics = Metrics(options.base_model, self.started_at_wall, options.max_model_len)
        self.paused = False
        self.sleep_level: int | None = None
        self.profiling = False
        self.weight_version = "default"
        self.weights = options.base_model
        """What the checksums of the weights are made of."""
        self._released: set[str] = set()
        """The tags of the memory that was given back."""
        self._refuses = False
        """Whether new requests are refused while it is paused."""
        self.adapter_history: dict[tuple[str, str], float] = {}
        """When each pair of (running, waiting) adapter lists was last seen; vLLM never forgets a pair."""
        self._loop = asyncio.get_running_loop()
        self._prefilling = asyncio.Lock()
        """Held by the prompt that is computed, if that goes one after the other."""
        self._tickets: set[Ticket] = set()
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._note_adapters()

    @property
    def halted(self) -> bool:
        """Whether new requests hang."""
        return self.paused or self.sleep_level is not None or bool(self._released)

    def render_metrics(self) -> bytes:
        """The body of GET /metrics."""
        return self.metrics.render(engine_gauges(self))

    def enter(self, job: Job, name: str = "") -> Ticket:
        """Queue a request; raises the 503 of a full queue or a pause. Every ticket must be released. `name`: its id."""
        if self._refuses:
            raise generation_paused()
        limit = self.options.max_num_queued_reqs
        ticket = Ticket(job, self._loop.time(), self._loop.create_future(), name)
        tokens = job.prompt_tokens + sum(job.lengths)
        priority = job.priority if self.options.priority_scheduling else 0
        blocks = -(-tokens // self.options.block_size)
        self.scheduler.offer(ticket, Claim(len(job.lengths) or 1, blocks, job.adapter, priority))
        self._tickets.add(ticket)
        self._idle.clear()
        self._admit()
        if limit is not None and not ticket.started.done() and len(self.scheduler.waiting) > limit:
            self._drop(ticket)
            self.metrics.reject("max_num_queued_reqs")
            raise busy()
        return ticket

    async def pace(self, ticket: Ticket) -> AsyncIterator[tuple[int, int]]:
        """Yield ranges of output positions as they are generated; ends early when aborted."""
        await ticket.started
        if ticket.aborted:
            return
        await self._prefill(ticket)
        job = ticket.job
        total = max(job.lengths, default=0)
        step = job.tokens_per_write or (1 if job.itl_seconds else _EVERYTHING)
        position, due_at = 0, ticket.first_token_at
        while position < total and not ticket.aborted:
            if not self._thawed.is_set():
                await self._thawed.wait()
                due_at = self._loop.time()
            end = min(total, position + step)
            # The first token of an answer comes out of the prefill.
            due_at += job.itl_seconds * (end - position - (position == 0))
            await self._sleep_until(ticket, due_at)
            if ticket.aborted:
                return
            yield position, end
            position = end
        ticket.complete = not ticket.aborted

    async def run(self, ticket: Ticket) -> None:
        """Wait until everything is generated or the request is aborted, and release it."""
        try:
            async for _ in self.pace(ticket):
                pass
        finally:
            self.release(ticket)

    def release(self, ticket: Ticket) -> None:
        """End a request's stay and count how it ended; a second time does nothing."""
        if ticket.released:
            return
        self._drop(ticket)
        now, job, metrics = self._loop.time(), ticket.job, self.metrics
        if not ticket.complete:
            metrics.count("request_success", len(job.lengths) or 1, finished_reason="abort")
            return
        for reason in job.finish_reasons:
            metrics.count("request_success", finished_reason="stop" if reason == "tool_calls" else reason)
        if ticket.blocks:
            tail = job.prompt[len(ticket.blocks) * self.cache.block_bytes :] + job.output
            self.cache.insert(ticket.blocks + self.cache.extend(ticket.blocks[-1], tail))
        generated = sum(job.lengths)
        metrics.count("generation_tokens", generated)
        metrics.observe("request_generation_tokens", generated)
        metrics.observe("request_prompt_tokens", job.prompt_tokens)
        metrics.observe("request_num_preemptions", 0)
        metrics.observe("request_params_n", len(job.lengths) or 1)
        metrics.observe("request_params_max_tokens", job.max_tokens)
        metrics.observe("e2e_request_latency_seconds", now - ticket.arrived_at)
        metrics.observe("request_inference_time_seconds", now - ticket.started_at)
        decode = now - ticket.first_token_at
        metrics.observe("request_decode_time_seconds", decode)
        gaps = max(job.lengths, default=0) - 1
        if gaps > 0:
            metrics.observe("inter_token_latency_seconds", decode / gaps, gaps)
            metrics.observe("request_time_per_output_token_seconds", decode / gaps)

    async def pause(self, mode: str) -> None:
        """Stop generating: `abort`, `wait` for or `keep` what is in flight."""
        self._refuses = mode != "keep" and self.options.version != VERSIONS[0]
        await self._halt(mode)

    async def sleep(self, mode: str, level: int) -> None:
        """The same, and give memory back from level 1 on."""
        self.sleep_level = level
        if level:
            self._released |= {"weights", "kv_cache"}
        await self._halt(mode)

    async def _halt(self, mode: str) -> None:
        self.paused = True  # a sleep is a pause, too
        self.scheduler.frozen = True
        if mode == "abort":
            self.abort_all()
        elif mode == "keep":
            self._thawed.clear()
        else:
            while self.scheduler.running:
                self._idle.clear()
                await self._idle.wait()

    def release_cache(self) -> None:
        """Give the memory of the KV cache back; /wake_up brings it back."""
        self._released.add("kv_cache")
        self.cache.clear()

    def resume(self) -> None:
        """End the pause, but not a sleep."""
        self.paused = False
        self._thaw()

    def wake_up(self, tags: Collection[str] = ()) -> bool:
        """Bring memory back, all of it without tags. Once all is there, sleep and pause are over: true."""
        self._released = self._released.difference(tags) if tags else set()
        if self._released:
            return False
        self.sleep_level = None
        self.paused = False
        self._thaw()
        return True

    def reset_prefix_cache(self, *, also_running: bool = False) -> bool:
        """Forget all blocks; refused while requests hold some, unless these shall compute theirs again."""
        if self.scheduler.running and not also_running:
            return False
        self.cache.clear()
        return True

    def abort_all(self, names: Collection[str] = ()) -> int:
        """End every request, or those with these ids; how many."""
        tickets = [ticket for ticket in self._tickets if not names or ticket.name in names]
        for ticket in tickets:
            self._abort(ticket)
        return len(tickets)

    def take_weights(self, source: str) -> None:
        """Have other weights: their checksums differ."""
        self.weights = f"{self.weights}\0{source}"

    def _thaw(self) -> None:
        if not self.halted:
            self._refuses = False
            self.scheduler.frozen = False
            self._thawed.set()
            self._admit()

    def _admit(self) -> None:
        for ticket in self.scheduler.admit():
            if isinstance(ticket, Ticket) and not ticket.started.done():
                ticket.started_at = self._loop.time()
                ticket.started.set_result(None)
        self._note_adapters()

    def _drop(self, ticket: Ticket) -> None:
        ticket.released = True
        self._tickets.discard(ticket)
        self.scheduler.remove(ticket)
        if not self.scheduler.running:
            self._idle.set()
        self._admit()

    def _abort(self, ticket: Ticket) -> None:
        ticket.aborted = True
        for future in (ticket.started, ticket.wake):
            if future is not None and not future.done():
                future.set_result(None)

    async def _prefill(self, ticket: Ticket) -> None:
        if not self.options.serial_prefill:
            await self._compute(ticket)
            return
        async with self._prefilling:  # in the order in which they came; the cache is asked when it is a prompt's turn
            if not ticket.aborted:
                await self._compute(ticket)

    async def _compute(self, ticket: Ticket) -> None:
        options, job, metrics = self.options, ticket.job, self.metrics
        root = f"{job.adapter}\0{job.cache_salt}"
        if options.prefix_caching:
            ticket.blocks = self.cache.chain(root, job.prompt)
            ticket.cached_tokens = self.cache.match(ticket.blocks, len(job.prompt))
            metrics.count("prefix_cache_queries", job.prompt_tokens)
            metrics.count("prefix_cache_hits", ticket.cached_tokens)
        computed, local, taken_over = job.prompt_tokens - ticket.cached_tokens, ticket.cached_tokens, 0
        if job.taken_over is not None:
            computed, taken_over = 1, computed - 1
            if job.taken_over.cached_tokens is not None:
                ticket.cached_tokens = job.taken_over.cached_tokens
        seconds = options.prefill_base_ms / 1e3 + computed * options.prefill_us_per_token / 1e6
        await self._sleep_until(ticket, self._loop.time() + seconds)
        if options.prefix_caching:
            self.cache.insert(ticket.blocks)
        now = ticket.first_token_at = self._loop.time()
        metrics.count("prompt_tokens", job.prompt_tokens)
        metrics.count("prompt_tokens_cached", ticket.cached_tokens)
        metrics.count("prompt_tokens_cached_by_source", ticket.cached_tokens, source="device")
        metrics.observe("request_prefill_kv_computed_tokens", computed)
        metrics.count("prompt_tokens_by_source", computed, source="local_compute")
        metrics.count("prompt_tokens_by_source", local, source="local_cache_hit")
        if taken_over:
            metrics.count("prompt_tokens_by_source", taken_over, source="external_kv_transfer")
        metrics.observe("time_to_first_token_seconds", now - ticket.arrived_at)
        metrics.observe("request_queue_time_seconds", ticket.started_at - ticket.arrived_at)
        metrics.observe("request_prefill_time_seconds", now - ticket.started_at)

    async def _sleep_until(self, ticket: Ticket, due_at: float) -> None:
        """A sleep that an abort ends at once."""
        if due_at <= self._loop.time():
            return
        ticket.wake = self._loop.create_future()
        timer = self._loop.call_at(due_at, _resolve, ticket.wake)
        try:
            await ticket.wake
        finally:
            timer.cancel()
            ticket.wake = None

    def _note_adapters(self) -> None:
        if not self.options.lora_updating and not self.models.adapters:
            return
        running, waiting = self.scheduler.running_adapters(), self.scheduler.waiting_adapters()
        self.adapter_history[(",".join(sorted(running)), ",".join(sorted(waiting)))] = time.time()


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
