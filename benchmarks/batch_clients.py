"""Engines with a gateway in front, interactive clients, and lines of batches, for `benchmarks.batch_processes`."""

import asyncio
import json
import random
import re
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

from benchmarks.metadata_gateway import ENDED, Gateway
from benchmarks.processes import LOOPBACK, Started, free_port

ENGINES: Final = 2
PREFILL_TOKENS_A_SECOND: Final = 16_000
ITL_MS: Final = 20.0
AT_ONCE: Final = 32 * ENGINES  # metadata.batch_requests_per_engine
BURST_RATE, CALM_RATE = 6.0, 0.5  # interactive requests a second
INTERACTIVE: Final = (1200, 60)  # tokens in and out, medians
BATCH: Final = (600, 40)
_TOKEN: Final = "abcd"  # what the simulator counts as one
_LONGEST: Final = 7500  # tokens; the simulator's context has 8,192
_LINES: Final = 12_000  # more than any scenario runs
_ENGINE: Final = (
    "--serial-prefill", "--tokens-per-write", "5", "--max-num-seqs", "128", "--no-prefix-caching",
    "--record-requests", "0",
)  # fmt: skip
_HEADERS: Final = {"content-type": "application/json"}
_SUCCESSES: Final = re.compile(r"^vllm:request_success_total\{[^}]*\} (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Times:
    """Bursts and the calm after them, in seconds, how many of both, and how slow all is."""

    half: float
    cycles: int
    slower: float = 1.0  # engines are, and requests are fewer: what else the machine does counts less then

    @property
    def whole(self) -> float:
        return 2 * self.half * self.cycles

    def is_calm(self, at: float) -> bool:
        """Whether no burst is there at this second."""
        return at % (2 * self.half) >= self.half


class Rig:
    """Two engines, and what `aibrix-extproc local` starts in front of them."""

    def __init__(self, folder: Path, http: aiohttp.ClientSession, slower: float, *engine_options: str) -> None:
        folder.mkdir()
        speed = (
            "--prefill-us-per-token", str(1e6 / PREFILL_TOKENS_A_SECOND * slower), "--itl-ms", str(ITL_MS * slower),
        )  # fmt: skip
        ports = [free_port() for _ in range(ENGINES)]
        self.http = http
        self.urls = [f"http://{LOOPBACK}:{port}" for port in ports]
        self._engines = [
            Started("engine", (
                sys.executable, "-m", "aibrix_extproc", "simulate", "--model", "m", "--port", str(port), *_ENGINE,
                *speed, *engine_options,
            ), folder / f"engine-{port}.log")
            for port in ports
        ]  # fmt: skip
        self.gateway = Gateway(folder, http, [word for url in self.urls for word in ("--engine", url)])

    def stop(self) -> None:
        """End all processes."""
        self.gateway.stop()
        for one in self._engines:
            one.stop()

    async def finished(self) -> int:
        """Requests that the engines have answered."""
        found = 0.0
        for url in self.urls:
            async with self.http.get(f"{url}/metrics") as answer:
                found += sum(map(float, _SUCCESSES.findall(await answer.text())))
        return int(found)


def body(draw: random.Random, medians: tuple[int, int], **more: object) -> bytes:
    """A chat of about that size."""
    tokens_in, tokens_out = (
        min(max(int(draw.lognormvariate(0.0, 0.6) * median), 1), _LONGEST) for median in medians
    )  # fmt: skip
    content = f"{draw.random():.17f} " + _TOKEN * tokens_in
    messages = [{"role": "user", "content": content}]
    return json.dumps(
        {"model": "m", "messages": messages, "max_tokens": tokens_out, "ignore_eos": True, **more}
    ).encode()


def arrivals(times: Times) -> Iterator[tuple[float, bytes]]:
    """When interactive requests come, and what they are; the same in every scenario."""
    draw, at = random.Random(1), 0.0
    while True:
        at += draw.expovariate((CALM_RATE if times.is_calm(at) else BURST_RATE) / times.slower)
        if at >= times.whole:
            return
        yield at, body(draw, INTERACTIVE, stream=True)


class Interactive:
    """Clients that ask at given moments, whatever the answers to others are; the times to their first tokens."""

    def __init__(self, rig: Rig, times: Times) -> None:
        self._rig = rig
        self._times = times
        self.first: list[tuple[float, float]] = []  # when it came, and after how many seconds its first token
        self.done = 0

    async def run(self) -> None:
        """All of them."""
        started = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for at, content in arrivals(self._times):
                await asyncio.sleep(max(started + at - time.monotonic(), 0))
                group.create_task(self._ask(at, content))

    async def _ask(self, at: float, content: bytes) -> None:
        started = time.monotonic()
        url = f"{self._rig.gateway.url}/chat/completions"
        async with self._rig.http.post(url, data=content, headers=_HEADERS) as answer:
            if answer.status != 200:
                raise RuntimeError(await answer.text())
            async for line in answer.content:
                if b'"content"' in line:
                    break
            self.first.append((at, time.monotonic() - started))
            await answer.read()
        self.done += 1


Load = Callable[[Rig], AbstractAsyncContextManager[object]]


@asynccontextmanager
async def nothing(_: Rig) -> AsyncIterator[None]:
    """No lines."""
    yield


@asynccontextmanager
async def this_worker(rig: Rig) -> AsyncIterator[None]:
    """A batch that does not end in time."""
    draw = random.Random(2)
    made = await rig.gateway.begin([
        json.dumps({
            "custom_id": str(number), "method": "POST", "url": "/v1/chat/completions",
            "body": json.loads(body(draw, BATCH)),
        }).encode() + b"\n"
        for number in range(_LINES)
    ])  # fmt: skip
    await rig.gateway.until(made, {"in_progress"} | ENDED, 0.1)
    yield
    left = await rig.gateway.ask("POST", f"/batches/{made['id']}/cancel")
    if left["status"] != "cancelling":
        raise RuntimeError(f"the batch has ended before its time: {left}")
    await rig.gateway.until(made, ENDED, 0.1)


def at_once(number: int) -> Load:
    """The same lines, so many at once, by a client that knows nothing of others."""

    @asynccontextmanager
    async def load(rig: Rig) -> AsyncIterator[None]:
        draw = random.Random(2)

        async def work() -> None:
            while True:
                await rig.gateway.ask("POST", "/chat/completions", data=body(draw, BATCH), headers=_HEADERS)

        tasks = [asyncio.create_task(work()) for _ in range(number)]
        try:
            yield
        finally:
            for one in tasks:
                one.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    return load
