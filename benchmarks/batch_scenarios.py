"""`python -m benchmarks.batch_scenarios`: batches beside interactive requests; writes docs/batch-scenarios.md."""

import itertools
import math
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from aibrix_extproc.core.batches.concurrency import PER_ENGINE
from benchmarks.batch_model import (
    BATCH,
    BURST_RATE,
    CALM_RATE,
    CYCLES,
    ENGINES,
    HALF,
    INTERACTIVE,
    MAX_SEQUENCES,
    PREFILL_TOKENS_A_SECOND,
    Adaptive,
    Fixed,
    Policy,
    World,
)  # fmt: skip
from benchmarks.batch_picture import Line, picture

PAGE: Final = Path("docs/batch-scenarios.md")
PICTURE: Final = Path("docs/batch-scenarios.svg")
SEEDS: Final = (1, 2, 3, 4, 5)


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is compared."""

    name: str
    policy: Callable[[], Policy]
    interactive: bool = True
    colour: str = ""  # in the picture; none: not drawn


AT_ONCE: Final = PER_ENGINE * ENGINES
ALONE: Final = Scenario(f"batch alone, {AT_ONCE} lines at once", partial(Fixed, AT_ONCE), interactive=False)
NONE: Final = Scenario("interactive requests alone", Policy)
OURS: Final = Scenario(
    "limit with the gateway's reports (this worker)", partial(Adaptive, reports=True), colour="#0a7d38"
)
SCENARIOS: Final = (
    NONE,
    ALONE,
    Scenario(f"ungated, {2 * AT_ONCE} lines at once", partial(Fixed, 2 * AT_ONCE), colour="#c0392b"),
    Scenario(f"ungated, {AT_ONCE} lines at once", partial(Fixed, AT_ONCE), colour="#e08e0b"),
    Scenario("limit by refusals alone (AIMD)", partial(Adaptive, reports=False), colour="#7d3cb5"),
    Scenario(
        "the same, with priorities in the engine",
        partial(Adaptive, reports=False, engine_has_priorities=True), colour="#2471a3",
    ),
    OURS,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one scenario, over all seeds. Times are seconds, rates lines a second."""

    burst_p50: float
    burst_p99: float
    calm_p99: float
    burst_rate: float
    calm_rate: float
    done: list[int]  # lines done after each second, of the first seed


def measured(scenario: Scenario) -> Figures:
    """Run it with each seed; medians of the runs' figures."""
    runs = []
    for seed in SEEDS:
        world = World(scenario.policy(), seed, interactive=scenario.interactive)
        world.run()
        runs.append(_figures(world))
    middle = [statistics.median(column) for column in zip(*(run[0] for run in runs), strict=True)]
    p50, p99, calm, burst_rate, calm_rate = middle
    return Figures(p50, p99, calm, burst_rate, calm_rate, runs[0][1])


def _figures(world: World) -> tuple[tuple[float, ...], list[int]]:
    waits: tuple[list[float], list[float]] = ([], [])
    for one in world.interactive:
        if one.first is not None:
            waits[_is_calm(one.came)].append(one.first - one.came)
    calm = sum(_is_calm(at) for at in world.lines_done)
    half = HALF * CYCLES
    done = [0] * (int(2 * half) + 2)
    for at in world.lines_done:
        done[int(at) + 1] += 1
    totals = list(itertools.accumulate(done))
    rates = ((len(world.lines_done) - calm) / half, calm / half)
    return (_quantile(waits[0], 0.5), _quantile(waits[0], 0.99), _quantile(waits[1], 0.99), *rates), totals


def _is_calm(at: float) -> bool:
    return at % (2 * HALF) >= HALF


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1))] if values else math.nan


def page(found: dict[Scenario, Figures]) -> str:
    """The page as Markdown."""
    none, idle = found[NONE], _idle(found)
    head = (
        "# Batches beside interactive requests\n\n"
        f"Written by `make bench-batches`, in simulated time: {ENGINES} engines, each"
        f" {PREFILL_TOKENS_A_SECOND:,.0f} tokens of prompts a second, one prompt after the other, and {MAX_SEQUENCES}"
        f" sequences that decode together. Bursts of {HALF:.0f} s with {BURST_RATE:.0f} interactive requests a second,"
        f" then {HALF:.0f} s with {CALM_RATE}; prompts of {INTERACTIVE[0]:,} tokens and answers of {INTERACTIVE[1]} in"
        f" the median, lines of batches {BATCH[0]} and {BATCH[1]}. Medians of {len(SEEDS)} runs. The limit is the"
        " worker's code; engines, network and gateway are a model. The engines refuse nothing, so AIMD cannot"
        " learn from them, as with vLLM. Real engines give other numbers.\n\n"
        "| scenario | time to the first token in bursts: p50 | p99 | against no batch | in calm times: p99 |"
        " lines a second in bursts | in calm times | of the idle capacity |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- |\n"
    )
    rows = "".join(
        f"| {one.name} | {_ms(of.burst_p50)} | {_ms(of.burst_p99)} |"
        f" {_change(of.burst_p99 / none.burst_p99)} | {_ms(of.calm_p99)} | {of.burst_rate:.1f} | {of.calm_rate:.1f} |"
        f" {of.calm_rate / idle:.0%} |\n"
        for one, of in found.items()
    )
    return (
        f"{head}{rows}\nThe idle capacity is what a batch alone reaches with {AT_ONCE} lines at once, less what"
        " interactive requests take in calm times. vLLM takes interactive requests first where it runs with"
        " `--scheduling-policy priority` and lines have a `priority` in their body; then bursts need no room.\n\n"
        "![Lines done over time, bursts in grey](batch-scenarios.svg)\n"
    )


def _idle(found: dict[Scenario, Figures]) -> float:
    """Lines a second that calm times have room for: an interactive request takes as much as lines of its tokens."""
    return found[ALONE].calm_rate - CALM_RATE * INTERACTIVE[0] / BATCH[0]


def _ms(seconds: float) -> str:
    return "" if math.isnan(seconds) else f"{seconds * 1000:.0f} ms"


def _change(ratio: float) -> str:
    return "" if math.isnan(ratio) else f"{ratio - 1:+.1%}"


def main() -> int:
    """0: the worker meets both figures."""
    found = {one: measured(one) for one in SCENARIOS}
    PAGE.write_text(page(found), encoding="utf-8")
    drawn = [Line(one.name, one.colour, of.done) for one, of in found.items() if one.colour]
    PICTURE.write_text(picture(drawn, HALF, CYCLES), encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))
    ours = found[OURS]
    return 0 if ours.burst_p99 <= 1.05 * found[NONE].burst_p99 and ours.calm_rate >= 0.9 * _idle(found) else 1


if __name__ == "__main__":
    sys.exit(main())
