"""`python -m benchmarks.admission_processes`: callers beside a heavy one, by real processes; writes the page PAGE.

Envoy, one gateway and simulated engines of few slots. A caller's requests come at the same moments in every run.
Beside it is nobody, a caller whose prompts are a hundred times larger, or one whose key has the class `batch`.
"""

import argparse
import asyncio
import hashlib
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp

from benchmarks.processes import Started, free_port

PAGE: Final = Path("docs/admission-processes.md")
ENGINES, SLOTS = 4, 8
TOKENS, OUTPUT = 200, 16
SLOWER: Final = 4  # than a GPU: then all processes together need less than half a core, and what is measured is waiting
RATE: Final = 15.0 / SLOWER  # requests of the caller that is measured, a second
WARM_SECONDS: Final = 20.0  # that are not counted: callers become known
_TOKEN: Final = "abcd"  # what the simulator counts as one
_ENGINE: Final = (
    f"--max-num-seqs {SLOTS} --itl-ms {20 * SLOWER} --prefill-us-per-token {50 * SLOWER} --no-prefix-caching"
    " --max-model-len 65536"
    " --record-requests 0"
)


@dataclass(frozen=True, slots=True)
class Beside:
    """Who asks beside the caller that is measured: with how many clients, and tokens in a prompt."""

    name: str
    key: str = ""
    clients: int = 0
    tokens: int = 0


RUNS: Final = (
    Beside("nobody"),
    Beside("prompts 100 times larger", "large", 48, 100 * TOKENS),
    Beside("batch", "batch", 64, TOKENS),
)


@dataclass(slots=True)
class Seen:
    """Seconds to first tokens and to the ends of answers, and the others' answers."""

    first: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    others: int = 0
    failed: int = 0


class Clients:
    """All clients of one run."""

    def __init__(self, http: aiohttp.ClientSession, url: str, seconds: float) -> None:
        self._http = http
        self._url = f"{url}/chat/completions"
        now = time.perf_counter()
        self._warm_at, self._ends_at = now + WARM_SECONDS, now + WARM_SECONDS + seconds
        self.seen = Seen()

    async def run(self, beside: Beside) -> Seen:
        """Ask until the time is over."""
        async with asyncio.TaskGroup() as group:
            others = [group.create_task(self._closed(beside)) for _ in range(beside.clients)]
            draw, at = random.Random(7), time.perf_counter()
            measured = []
            while (at := at + draw.expovariate(RATE)) < self._ends_at:
                await asyncio.sleep(max(at - time.perf_counter(), 0.0))
                measured.append(group.create_task(self._measured(counts=at >= self._warm_at)))
            await asyncio.wait(measured)
            for one in others:
                one.cancel()
        return self.seen

    async def _measured(self, *, counts: bool) -> None:
        times = await self._ask("small", TOKENS)
        if times is None:
            self.seen.failed += 1
        elif counts:
            self.seen.first.append(times[0])
            self.seen.whole.append(times[1])

    async def _closed(self, beside: Beside) -> None:
        while True:
            if await self._ask(beside.key, beside.tokens) is None:
                await asyncio.sleep(1.0)
            elif time.perf_counter() >= self._warm_at:
                self.seen.others += 1

    async def _ask(self, caller: str, tokens: int) -> tuple[float, float] | None:
        content = f"{random.random():.17f} " + _TOKEN * tokens
        messages = [{"role": "user", "content": content}]
        body = json.dumps({"model": "sim-chat", "messages": messages, "max_tokens": OUTPUT, "stream": True})
        headers = {"authorization": f"Bearer sk-{caller}", "content-type": "application/json"}
        started, first = time.perf_counter(), 0.0
        async with self._http.post(self._url, data=body, headers=headers) as answer:
            if answer.status != 200:
                await answer.read()
                return None
            async for piece in answer.content.iter_any():
                if not first and b'"content":"' in piece:
                    first = time.perf_counter() - started
            return first, time.perf_counter() - started


async def started(folder: Path, *, queued: bool) -> tuple[Started, str]:
    """`local` with three callers; its process and base URL."""
    callers = [
        {"name": name, "labels": {"class": kind},
         "keys": [{"id": f"k_{name}", "hash": f"sha256:{hashlib.sha256(f'sk-{name}'.encode()).hexdigest()}"}]}
        for name, kind in (("small", "default"), ("large", "default"), ("batch", "batch"))
    ]  # fmt: skip
    keys, settings, log = folder / "keys.yaml", folder / "settings.yaml", folder / "local.log"
    keys.write_text(json.dumps({"callers": callers}))
    settings.write_text(json.dumps({"queue": {"enabled": queued, "engine_requests": SLOTS}}))
    local = Started("local", (
        sys.executable, "-m", "aibrix_extproc", "local", "--port", "0", "--admin-port", str(free_port()),
        "--envoy-admin-port", str(free_port()), "--engines", str(ENGINES), f"--simulate={_ENGINE}",
        "--key-file", str(keys), "--config", str(settings), "--no-metadata", "--json",
    ), log)  # fmt: skip
    for _ in range(600):
        local.check()
        for line in log.read_text(errors="replace").splitlines():
            if line.startswith("{"):
                return local, json.loads(line)["base_url"]
        await asyncio.sleep(0.2)
    raise RuntimeError(local.last_words())


def quantile(values: Sequence[float], share: float) -> float:
    """Of the values, by rank."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def row(beside: Beside, mode: str, seen: Seen, alone: Seen, seconds: float) -> str:
    """A line of the table."""
    ratios = [
        quantile(values, share) / quantile(base, share)
        for values, base in ((seen.first, alone.first), (seen.whole, alone.whole)) for share in (0.95, 0.99)
    ]  # fmt: skip
    figures = " | ".join(f"{one:.2f}" for one in ratios)
    p95 = quantile(seen.whole, 0.95)
    return f"| {beside.name} | {mode} | {p95:.3f} | {figures} | {seen.others / seconds:.1f} | {seen.failed} |\n"


_HEAD: Final = """# What the queue gives, by real processes

Written by `python -m benchmarks.admission_processes`: Envoy, one gateway, {engines} simulated engines of {slots}
slots. A caller sends {rate:g} requests a second of {tokens} tokens for {output} tokens at random moments. Beside it is
a caller with 48 clients and prompts 100 times larger, or one with 64 clients whose key has the class `batch`. Ratios
are to the same caller alone with the same setting, of {seconds:g} s after {warm:g} s in which callers become known.
Engines are {slower} times slower than a GPU, so that all of this needs less than half a core. Two cores that other work
used, too: load average {load:.1f} at the beginning.

| beside it | queue | p95, s | first token p95 | p99 | whole answer p95 | p99 | others' answers a second | failed |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
"""


async def main(seconds: float) -> str:
    """Every run with and without the queue; the page."""
    text = _HEAD.format(
        engines=ENGINES,
        slots=SLOTS,
        rate=RATE,
        tokens=TOKENS,
        output=OUTPUT,
        seconds=seconds,
        warm=WARM_SECONDS,
        slower=SLOWER,
        load=os.getloadavg()[0],
    )
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        for mode, queued in (("off", False), ("on", True)):
            with tempfile.TemporaryDirectory() as folder:
                local, url = await started(Path(folder), queued=queued)
                try:
                    alone = Seen()
                    for beside in RUNS:
                        seen = await Clients(http, url, seconds).run(beside)
                        alone = alone if beside.clients else seen
                        text += row(beside, mode, seen, alone, seconds)
                        print(text.splitlines()[-1], flush=True)
                        await asyncio.sleep(5.0)  # until what runs has ended, and averages have faded
                finally:
                    local.stop()
    return text


if __name__ == "__main__":
    _parser = argparse.ArgumentParser()
    _parser.add_argument("--seconds", type=float, default=60.0, help="of each run, without what is not counted")
    PAGE.write_text(asyncio.run(main(_parser.parse_args().seconds)))
