"""`python -m benchmarks.batch_processes`: batches beside interactive requests; writes docs/batch-processes.md.

As `benchmarks.batch_scenarios`, but with the real processes: Envoy, the gateway, the metadata service, and simulated
engines that compute one prompt after the other. Interactive requests come at the same moments in every scenario.
"""

import argparse
import asyncio
import datetime
import itertools
import math
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

from benchmarks.batch_clients import (
    AT_ONCE,
    BATCH,
    BURST_RATE,
    CALM_RATE,
    ENGINES,
    INTERACTIVE,
    PREFILL_TOKENS_A_SECOND,
    Interactive,
    Load,
    Rig,
    Times,
    at_once,
    body,
    nothing,
    this_worker,
)
from benchmarks.batch_picture import Line, picture

PAGE: Final = Path("docs/batch-processes.md")
PICTURE: Final = Path("docs/batch-processes.svg")
QUEUE: Final = 4  # of engines that refuse


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is compared."""

    name: str
    load: Load
    interactive: bool = True
    refuses: bool = False  # whether the engines refuse what they would queue beyond a few requests
    colour: str = ""  # in the picture; none: not drawn


NONE: Final = Scenario("interactive requests alone", nothing)
ALONE: Final = Scenario(f"lines alone, {AT_ONCE} at once", at_once(AT_ONCE), interactive=False)
OURS: Final = Scenario("a batch of this service", this_worker, colour="#0a7d38")
SCENARIOS: Final = (
    NONE,
    ALONE,
    Scenario(f"no batches: a client with {AT_ONCE} at once", at_once(AT_ONCE), colour="#e08e0b"),
    OURS,
    Scenario(
        f"a batch of this service, engines refuse beyond {QUEUE} that wait", this_worker, refuses=True, colour="#2471a3"
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one scenario. Times are seconds, rates lines a second."""

    burst_p50: float
    burst_p99: float
    calm_p99: float
    burst_rate: float
    calm_rate: float
    done: list[int]  # lines done after each second


async def measured(rig: Rig, scenario: Scenario, times: Times) -> Figures:
    """Run it once."""
    interactive = Interactive(rig, times)
    async with scenario.load(rig):
        await asyncio.sleep(5 * times.slower)  # until the number of lines at once has found its place
        asking = asyncio.create_task(interactive.run()) if scenario.interactive else None
        began, base, done = time.monotonic(), await rig.finished(), []
        for second in range(int(times.whole) + 1):
            await asyncio.sleep(max(began + second - time.monotonic(), 0))
            done.append(max(await rig.finished() - base - interactive.done, 0))
        if asking is not None:
            await asking
    return figures(interactive.first, done, times)


def figures(first: Sequence[tuple[float, float]], done: list[int], times: Times) -> Figures:
    """What was seen, as figures."""
    waits: tuple[list[float], list[float]] = ([], [])
    for at, seconds in first:
        waits[times.is_calm(at)].append(seconds)
    counted = [0, 0]
    for second, (before, after) in enumerate(itertools.pairwise(done)):
        counted[times.is_calm(second)] += after - before
    burst, calm = (one / (times.half * times.cycles) for one in counted)
    return Figures(_quantile(waits[0], 0.5), _quantile(waits[0], 0.99), _quantile(waits[1], 0.99), burst, calm, done)


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1))] if values else math.nan


def idle(found: dict[Scenario, Figures], slower: float) -> float:
    """Lines a second that calm times have room for: an interactive request takes as much as lines of its tokens."""
    alone = found[ALONE]
    return (alone.burst_rate + alone.calm_rate) / 2 - CALM_RATE / slower * INTERACTIVE[0] / BATCH[0]


def page(found: dict[Scenario, Figures], times: Times, load: float) -> str:
    """The page as Markdown."""
    none, room = found[NONE], idle(found, times.slower)
    prefill, burst, calm = (one / times.slower for one in (PREFILL_TOKENS_A_SECOND, BURST_RATE, CALM_RATE))
    today, cpus = datetime.datetime.now(datetime.UTC).date(), len(os.sched_getaffinity(0))
    head = (
        "# Batches beside interactive requests, with real processes\n\n"
        f"Written by `make bench-batches-processes`: Envoy, the gateway, the metadata service and {ENGINES} simulated"
        f" engines, each {prefill:,.0f} tokens of prompts a second, one prompt after the other. Bursts of"
        f" {times.half:.0f} s with {burst:.2g} interactive requests a second, then {times.half:.0f} s with {calm:.2g},"
        f" {times.cycles} times; prompts of {INTERACTIVE[0]:,} tokens and answers of {INTERACTIVE[1]} in the median,"
        f" lines of batches {BATCH[0]} and {BATCH[1]}. Interactive requests come at the same moments in every scenario."
        " [In simulated time](batch-scenarios.md) the same is longer and free of the machine's noise.\n\n"
        f"{today}, {cpus} CPUs, load average {load:.1f} when it began.\n\n"
        "| scenario | time to the first token in bursts: p50 | p99 | against no lines | in calm times: p99 |"
        " lines a second in bursts | in calm times | of the idle capacity |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- |\n"
    )
    rows = "".join(
        f"| {one.name} | {_ms(of.burst_p50)} | {_ms(of.burst_p99)} | {_change(of.burst_p99 / none.burst_p99)} |"
        f" {_ms(of.calm_p99)} | {of.burst_rate:.1f} | {of.calm_rate:.1f} | {of.calm_rate / room:.0%} |\n"
        for one, of in found.items()
    )
    return (
        f"{head}{rows}\nThe idle capacity is what lines alone reach with {AT_ONCE} at once, less what interactive"
        " requests take in calm times.\n\n![Lines done over time, bursts in grey](batch-processes.svg)\n"
    )


def _ms(seconds: float) -> str:
    return "" if math.isnan(seconds) else f"{seconds * 1000:.0f} ms"


def _change(ratio: float) -> str:
    return "" if math.isnan(ratio) else f"{ratio - 1:+.1%}"


async def measure(folder: Path, times: Times) -> dict[Scenario, Figures]:
    """All scenarios."""
    found: dict[Scenario, Figures] = {}
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as http:
        for refuses in (False, True):
            rig = Rig(
                folder / str(refuses), http, times.slower, *(("--max-num-queued-reqs", str(QUEUE)) if refuses else ())
            )
            try:
                await rig.gateway.ready(body(random.Random(0), BATCH))
                for one in [one for one in SCENARIOS if one.refuses is refuses]:
                    found[one] = await measured(rig, one, times)
                    print(f"{one.name}: {found[one]}"[:200], flush=True)
            finally:
                rig.stop()
    return found


def main() -> int:
    """0: a batch of ours meets both figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batch_processes", description=__doc__)
    parser.add_argument("--half", type=float, default=20.0, help="seconds of a burst, and of the calm (%(default)s)")
    parser.add_argument("--cycles", type=int, default=2, help="of both (%(default)s)")
    parser.add_argument("--slower", type=float, default=1.0, help="engines, for a busy machine (%(default)s)")
    args = parser.parse_args()
    times, load = Times(args.half, args.cycles, args.slower), os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="bench-batches-") as folder:
        found = asyncio.run(measure(Path(folder), times))
    PAGE.write_text(page(found, times, load), encoding="utf-8")
    drawn = [Line(one.name, one.colour, of.done) for one, of in found.items() if one.colour]
    PICTURE.write_text(picture(drawn, times.half, times.cycles), encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))
    ours = found[OURS]
    return (
        0 if ours.burst_p99 <= 1.05 * found[NONE].burst_p99 and ours.calm_rate >= 0.9 * idle(found, times.slower) else 1
    )


if __name__ == "__main__":
    sys.exit(main())
