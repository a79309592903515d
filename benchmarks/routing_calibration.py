"""`python -m benchmarks.routing_calibration`: one trace through real Envoy to simulated engines, and in the simulation.

Writes docs/routing-calibration.md. Strategies must come in the same order, and their ratios must be alike.
"""

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

import aiohttp

from aibrix_extproc.replay.compare import Setting, compared
from aibrix_extproc.replay.engine_model import EngineShape
from aibrix_extproc.replay.figures import quantile
from aibrix_extproc.replay.trace import Request, Text, Trace, Writer, trace_of
from aibrix_extproc.replay.workloads.draws import Zipf, lognormal
from benchmarks.processes import LOOPBACK, Started, free_port

PAGE: Final = Path("docs/routing-calibration.md")
ENGINES: Final = 8
SLOWER: Final = 5.0  # all times, so that the processes need less than half a core and waits are those of engines
SPEED: Final = 4_000.0 / SLOWER  # prompt tokens a second
CACHE: Final = 24_000  # tokens
BLOCK: Final = 64
TOKEN_BYTES: Final = 4
OUTPUT: Final = 4
GROUPS: Final = 40
SHARED: Final = 1_536  # tokens that the prompts of a group begin with
OWN: Final = 300  # median of the rest
RATE: Final = 22.0 / SLOWER
SECONDS: Final = 120.0
WARM: Final = 160  # first requests that are not counted: speeds are learned
STRATEGIES: Final = ("predicted", "least-request", "round-robin")
_START_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True)
class Seen:
    """Times to the first token of one strategy, sorted, and the part of the prompts that was cached."""

    waits: list[float]
    hit_rate: float

    def at(self, share: float) -> float:
        """A quantile."""
        return quantile(self.waits, share)


def shared_prefixes(seed: int) -> Trace:
    """Requests of groups that begin alike, of which some are asked for more than others."""
    draw, writer = Random(seed), Writer(BLOCK)
    groups = [writer.extended(Text(), SHARED) for _ in range(GROUPS)]
    popular, at, rows = Zipf(GROUPS, 0.6), 0.0, list[Request]()
    while at < SECONDS:
        at += draw.expovariate(RATE)
        prompt = writer.extended(groups[popular.draw(draw)], lognormal(draw, OWN, 0.5))
        rows.append(Request(at, prompt.tokens, OUTPUT, prompt.blocks))
    return trace_of("shared prefixes", rows, BLOCK)


def text_of(request: Request, number: int, salt: str) -> str:
    """A prompt of as many bytes, whose blocks are equal where the trace says so."""
    size = BLOCK * TOKEN_BYTES
    blocks = "".join(f"{salt} {block} ".ljust(size, "x") for block in request.blocks)
    rest = request.prompt_tokens * TOKEN_BYTES - len(blocks)
    return blocks + f"{salt} alone {number} ".ljust(rest, "y")[:rest]


async def asked(session: aiohttp.ClientSession, url: str, strategy: str, text: str) -> tuple[float, int, int]:
    """Seconds to the first token, cached and all tokens of the prompt."""
    body = {
        "model": "sim-chat", "prompt": text, "max_tokens": OUTPUT, "stream": True,
        "stream_options": {"include_usage": True},
    }  # fmt: skip
    start, first = time.perf_counter(), 0.0
    usage: dict[str, Any] = {}
    async with session.post(url, json=body, headers={"routing-strategy": strategy}) as reply:
        reply.raise_for_status()
        async for line in reply.content:
            if line.startswith(b"data: {"):
                event = json.loads(line[6:])
                if event.get("choices") and not first:
                    first = time.perf_counter() - start
                usage = event.get("usage") or usage
    details = usage.get("prompt_tokens_details") or {}
    return first, details.get("cached_tokens") or 0, usage["prompt_tokens"]


async def through_envoy(trace: Trace, port: int, strategy: str) -> Seen:
    """Send the trace in its times."""
    url = f"http://{LOOPBACK}:{port}/v1/completions"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        loop = asyncio.get_running_loop()
        begin, tasks = loop.time() + 0.5, []
        async with asyncio.TaskGroup() as group:
            for number, request in enumerate(trace.requests):
                await asyncio.sleep(max(begin + request.at - loop.time(), 0))
                text = text_of(request, number, strategy)
                tasks.append(group.create_task(asked(session, url, strategy, text)))
    rows = [task.result() for task in tasks]
    rows = rows[WARM:]
    return Seen(sorted(row[0] for row in rows), sum(row[1] for row in rows) / sum(row[2] for row in rows))


def simulated(trace: Trace, strategy: str) -> Seen:
    """The same in the simulation."""
    shape = EngineShape(prefill_tokens_per_second=SPEED, cache_tokens=CACHE)
    figures, outcome = compared(trace, [strategy], Setting(ENGINES, shape, batching=False, seed=1, skip=WARM))[0]
    return Seen(sorted(one.first_token - one.arrived for one in outcome.visits[WARM:]), figures.hit_rate)


async def measured(trace: Trace) -> dict[str, Seen]:
    """By strategy, all through one gateway; prompts of one strategy have nothing in common with those of another."""
    program = str(Path(sys.executable).with_name("aibrix-extproc"))
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="calibration-")))
        ports = [free_port() for _ in range(ENGINES)]
        for port in ports:
            words: tuple[str, ...] = (
                program, "simulate", "--model", "sim-chat", "--port", str(port), "--serial-prefill",
                "--prefill-us-per-token", str(1e6 / SPEED), "--num-blocks", str(CACHE // 16),
                "--enable-prompt-tokens-details",
            )  # fmt: skip
            engine = Started(f"engine {port}", words, place / f"{port}.log")
            stack.callback(engine.stop)
            await until_listening(port, engine)
        port = free_port()
        engines = [word for one in ports for word in ("--engine", f"http://{LOOPBACK}:{one}")]
        words = (program, "local", "--port", str(port), *engines)
        gateway = Started("the gateway", words, place / "gateway.log")
        stack.callback(gateway.stop)
        await until_serving(port, gateway)
        return {strategy: await through_envoy(trace, port, strategy) for strategy in STRATEGIES}


async def until_listening(port: int, engine: Started) -> None:
    """Wait for an engine."""
    end = time.monotonic() + _START_SECONDS
    async with aiohttp.ClientSession() as session:
        while True:
            engine.check()
            try:
                async with session.get(f"http://{LOOPBACK}:{port}/health"):
                    return
            except aiohttp.ClientError:
                if time.monotonic() > end:
                    raise
                await asyncio.sleep(0.2)


async def until_serving(port: int, gateway: Started) -> None:
    """Wait for the first answer."""
    end = time.monotonic() + _START_SECONDS
    async with aiohttp.ClientSession() as session:
        while True:
            gateway.check()
            try:
                await asked(session, f"http://{LOOPBACK}:{port}/v1/completions", "random", "hello")
                return
            except (aiohttp.ClientError, KeyError):
                if time.monotonic() > end:
                    raise RuntimeError(gateway.last_words()) from None
                await asyncio.sleep(0.2)


def page(trace: Trace, real: dict[str, Seen], model: dict[str, Seen]) -> str:
    """The page as Markdown."""
    head = (
        "# Calibration of replay\n\nWritten by `make calibrate-routing`: the same requests through a real Envoy and a"
        f" real gateway to {ENGINES} simulated engines (`aibrix-extproc simulate --serial-prefill`), and in"
        f" `aibrix-extproc replay`. {len(trace.requests):,} requests in {SECONDS:.0f} s of {GROUPS} groups that share"
        f" {SHARED:,} tokens; engines compute {SPEED:,.0f} tokens a second and keep {CACHE:,}. Times to the first token"
        " in milliseconds; ratios are to round-robin. Requests and engines are slow, so that all processes together"
        f" need less than half a core; the first {WARM} requests are not counted. Load average at the end"
        f" {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores.\n\n"
        "| strategy | hits: Envoy | replay | mean: Envoy | replay | p95: Envoy | replay | mean, ratio: Envoy | replay |"
        " p95, ratio: Envoy | replay |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
    )
    return head + "".join(row(name, real, model) for name in STRATEGIES)


def row(name: str, real: dict[str, Seen], model: dict[str, Seen]) -> str:
    """One strategy."""
    cells = [name, *(f"{one[name].hit_rate:.1%}" for one in (real, model))]
    for of in (mean, lambda seen: seen.at(0.95)):
        cells += [f"{of(one[name]) * 1000:.0f}" for one in (real, model)]
    for of in (mean, lambda seen: seen.at(0.95)):
        cells += [f"{of(one[name]) / of(one['round-robin']):.2f}" for one in (real, model)]
    return f"| {' | '.join(cells)} |\n"


def mean(seen: Seen) -> float:
    """Of the times to the first token."""
    return sum(seen.waits) / len(seen.waits)


def main() -> int:
    """0: the order is the same."""
    trace = shared_prefixes(1)
    real = asyncio.run(measured(trace))
    model = {strategy: simulated(trace, strategy) for strategy in STRATEGIES}
    PAGE.write_text(page(trace, real, model), encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))
    return 0 if order(real) == order(model) else 1


def order(seen: dict[str, Seen]) -> Sequence[str]:
    """The best first, by p95."""
    return sorted(seen, key=lambda name: seen[name].at(0.95))


if __name__ == "__main__":
    sys.exit(main())
