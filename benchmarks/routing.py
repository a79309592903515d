"""`python -m benchmarks.routing`: strategies on traces in simulated time; writes docs/routing-figures.md."""

import argparse
import gzip
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Final

from aibrix_extproc.replay.compare import Setting, compared
from aibrix_extproc.replay.engine_model import EngineShape
from aibrix_extproc.replay.figures import Figures
from aibrix_extproc.replay.picture import picture
from aibrix_extproc.replay.trace import Trace, sped_up
from aibrix_extproc.replay.traces.form import read_trace
from aibrix_extproc.replay.workloads.table import WORKLOADS

PAGE: Final = Path("docs/routing-figures.md")
PICTURE: Final = Path("docs/routing-conversation.svg")
OURS: Final = "predicted"
OTHERS: Final = ("llm-d", "dynamo", "aibrix", "sglang", "sticky", "least-request", "round-robin")
STRATEGIES: Final = (OURS, *OTHERS)
REQUESTS: Final = 3_000
LONGER: Final = {"conversation": 4_000}
LEARNED: Final = 1_600  # requests that the figures leave out: 200 for each engine
EVEN: Final = Setting(8, seed=1, skip=LEARNED)
THREE: Final = replace(EVEN, gateways=3)
SHARING: Final = replace(THREE, share_seconds=0.025)
SLOW: Final = replace(EVEN, slow=((5, 5.0),))
SAME_CAPACITY: Final = replace(EVEN, shape=EngineShape().slower(8 / 7.2))  # as the slow one and seven others
SMALL: Final = replace(
    EVEN, shape=EngineShape(prefill_tokens_per_second=6_000, cache_tokens=400_000, step_tokens=2_048)
)
SMALL_SPEEDUP: Final = 0.3
SEEDS: Final = (2, 3)
DRAWN: Final = "conversation"
_HEAD: Final = f"""# Figures of routing

Written by `make bench-routing`, in simulated time by `aibrix-extproc replay`, on 8 engines. Times to the first token in
seconds, of the requests after the first third of a trace (at most {LEARNED // 8} for each engine), in which speeds are
learned. llm-d, Dynamo, AIBrix, SGLang and `sticky` (keep to a prefix of over 80 % until 18 s of work wait) are
written by their documentation, with an exact index and gauges without delay. `predicted` has what a gateway has:
charges after the end of an answer, and gauges that are up to 0.2 s old."""


@dataclass(frozen=True, slots=True)
class Job:
    """One run."""

    trace: str  # a workload, or the path of a trace
    speedup: float
    strategy: str
    setting: Setting


@lru_cache(maxsize=2)
def trace_of(name: str, speedup: float, seed: int = 1) -> Trace:
    """A workload, or what a file has."""
    if name in WORKLOADS:
        return sped_up(WORKLOADS[name].make(seed, LONGER.get(name, REQUESTS)), speedup)
    with gzip.open(name) if name.endswith(".gz") else open(name, "rb") as lines:
        return sped_up(read_trace(Path(name).name.partition(".")[0], lines), speedup)


def measured(job: Job) -> Figures:
    """The figures of one run."""
    trace = trace_of(job.trace, job.speedup, job.setting.seed)
    skip = min(job.setting.skip, len(trace.requests) // 3)
    return compared(trace, [job.strategy], replace(job.setting, skip=skip))[0][0]


def jobs(sources: Sequence[tuple[str, float]]) -> Iterator[Job]:
    """All runs, those of one trace together."""
    for trace, speedup in sources:
        for setting in (EVEN, SLOW):
            yield from (Job(trace, speedup, strategy, setting) for strategy in STRATEGIES)
        yield Job(trace, speedup, OURS, THREE)
        yield Job(trace, speedup, OURS, SHARING)
        yield from (Job(trace, speedup, OURS, EVEN.with_engines(engines)) for engines in (7, 9))
        yield Job(trace, speedup, OURS, SAME_CAPACITY)
        for faster, setting in elsewhere(trace, speedup):
            yield from (Job(trace, faster, strategy, setting) for strategy in STRATEGIES)


def elsewhere(trace: str, speedup: float) -> list[tuple[float, Setting]]:
    """Speedups and settings with which nothing was tried out."""
    seeds = [(speedup, replace(EVEN, seed=seed)) for seed in SEEDS if trace in WORKLOADS]
    return [*seeds, (speedup * SMALL_SPEEDUP, replace(SMALL, seed=4))]


Found = dict[Job, Figures]


def page(sources: Sequence[tuple[str, float]], found: Found) -> str:
    """The page as Markdown."""
    shape = EngineShape()
    parts = [
        f"{_HEAD}\n\nEngines compute {shape.prefill_tokens_per_second:,.0f} tokens of prompts a second in steps of at"
        f" most {shape.step_tokens:,}. A decode step takes {shape.step_seconds * 1000:.0f} ms, and"
        f" {shape.sequence_seconds * 1000:.2f} ms more for each sequence. Caches hold {shape.cache_tokens:,} tokens.\n",
        *(_section(trace, speedup, found) for trace, speedup in sources),
        _together(sources, found),
        _slow(sources, found),
        _elsewhere(sources, found),
        f"![Times to the first token, {DRAWN}](routing-conversation.svg)\n",
    ]
    return "\n".join(parts)


def _section(trace: str, speedup: float, found: Found) -> str:
    requests = trace_of(trace, speedup)
    faster = "" if speedup == 1 else f", {speedup:g} times as fast"
    what = f": {WORKLOADS[trace].meaning}" if trace in WORKLOADS else ""
    head = (
        f"## {requests.name}{faster}\n\n{len(requests.requests):,} requests in {requests.seconds:.0f} s{what}.\n\n"
        "| strategy | hits | p50 | p95 | p99 | one engine 5 times slower: p95 | p99 |\n"
        "| --- | --- | --- | --- | --- | --- | --- |\n"
    )
    rows = []
    for strategy in STRATEGIES:
        even, slow = (found[Job(trace, speedup, strategy, setting)] for setting in (EVEN, SLOW))
        rows.append(
            f"| {strategy} | {even.hit_rate:.1%} | {even.ttft_p50:.2f} | {even.ttft_p95:.2f} | {even.ttft_p99:.2f} |"
            f" {slow.ttft_p95:.2f} | {slow.ttft_p99:.2f} |\n"
        )
    return head + "".join(rows)


def _together(sources: Sequence[tuple[str, float]], found: Found) -> str:
    head = (
        "## predicted beside the others\n\nRatios of p95. The best other one is the best of each trace, of all that are"
        " listed above.\n\n| trace | round-robin | least-request | llm-d | dynamo | best other | p99 with one engine 5"
        " times slower, to without | 3 gateways to 1, and if they share after 25 ms | p95 with 7, 8, 9 engines |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
    )
    rows = []
    for trace, speedup in sources:
        ours = found[Job(trace, speedup, OURS, EVEN)]
        others = {name: found[Job(trace, speedup, name, EVEN)].ttft_p95 for name in OTHERS}
        best = min(others, key=others.__getitem__)
        ratios = [ours.ttft_p95 / others[name] for name in ("round-robin", "least-request", "llm-d", "dynamo")]
        slow = found[Job(trace, speedup, OURS, SLOW)]
        three, sharing = (found[Job(trace, speedup, OURS, setting)] for setting in (THREE, SHARING))
        counts = [found[Job(trace, speedup, OURS, EVEN.with_engines(engines))].ttft_p95 for engines in (7, 8, 9)]
        cells = [
            trace_of(trace, speedup).name,
            *(f"{ratio:.2f}" for ratio in ratios),
            f"{ours.ttft_p95 / others[best]:.2f} ({best})",
            f"{slow.ttft_p99 / ours.ttft_p99:.2f}",
            f"{three.ttft_p95 / ours.ttft_p95:.2f}, {sharing.ttft_p95 / ours.ttft_p95:.2f}",
            ", ".join(f"{one:.2f}" for one in counts),
        ]
        rows.append(f"| {' | '.join(cells)} |\n")
    return head + "".join(rows)


def _slow(sources: Sequence[tuple[str, float]], found: Found) -> str:
    head = (
        "## One slow engine: what is possible\n\np99 of `predicted`. Seven engines and one that is five times slower"
        " have the capacity of 7.2 engines, so eight of 0.9 of the speed show what is lost by capacity alone.\n\n"
        "| trace | 8 engines | one 5 times slower | 8 of 0.9 of the speed | 7 engines | slow, to 0.9 | slow, the best"
        " other |\n| --- | --- | --- | --- | --- | --- | --- |\n"
    )
    rows = []
    for trace, speedup in sources:
        settings = EVEN, SLOW, SAME_CAPACITY, EVEN.with_engines(7)
        p99s = [found[Job(trace, speedup, OURS, setting)].ttft_p99 for setting in settings]
        others = {name: found[Job(trace, speedup, name, SLOW)].ttft_p99 for name in OTHERS}
        best = min(others, key=others.__getitem__)
        cells = [trace_of(trace, speedup).name, *(f"{one:.2f}" for one in p99s), f"{p99s[1] / p99s[2]:.2f}"]
        rows.append(f"| {' | '.join(cells)} | {others[best]:.2f} ({best}) |\n")
    return head + "".join(rows)


def _elsewhere(sources: Sequence[tuple[str, float]], found: Found) -> str:
    shape = SMALL.shape
    head = (
        "## Other seeds, other engines\n\nThe p95 of `predicted` as a ratio to that of the best other strategy of each"
        f" run, with other seeds and with smaller engines ({shape.prefill_tokens_per_second:,.0f} tokens a second in"
        f" steps of {shape.step_tokens:,}, caches of {shape.cache_tokens:,}; requests at {SMALL_SPEEDUP} of the rate)."
        " Nothing was tuned on them.\n\n"
        "| trace | " + " | ".join(f"seed {seed}" for seed in SEEDS) + " | smaller engines |\n"
        "| --- |" + " --- |" * (len(SEEDS) + 1) + "\n"
    )
    rows = []
    for trace, speedup in sources:
        cells = []
        for faster, setting in elsewhere(trace, speedup):
            p95s = {name: found[Job(trace, faster, name, setting)].ttft_p95 for name in STRATEGIES}
            best = min(OTHERS, key=p95s.__getitem__)
            cells.append(f"{p95s[OURS] / p95s[best]:.2f} ({best})")
        cells = ["-"] * (len(SEEDS) + 1 - len(cells)) + cells
        rows.append(f"| {trace_of(trace, speedup).name} | {' | '.join(cells)} |\n")
    return head + "".join(rows)


def drawing() -> str:
    """The times to the first token of some strategies on one workload."""
    trace = trace_of(DRAWN, 1.0)
    waits = {}
    for strategy in (OURS, "llm-d", "aibrix", "sglang", "least-request", "round-robin"):
        _, outcome = compared(trace, [strategy], EVEN)[0]
        waits[strategy] = sorted(one.first_token - one.arrived for one in outcome.visits[LEARNED:])
    return picture(f"{DRAWN}: part of the requests that have their first token within a time", waits)


def main() -> int:
    """Write the page."""
    parser = argparse.ArgumentParser(prog="make bench-routing", description="Compare strategies on traces.")
    parser.add_argument("--trace", action="append", default=[], metavar="FILE=SPEEDUP", help="a trace in a file, too")
    args = parser.parse_args()
    named = [(path, float(factor or 1)) for path, _, factor in (word.partition("=") for word in args.trace)]
    sources = [*named, *((name, 1.0) for name in WORKLOADS)]
    all_jobs = list(jobs(sources))
    with ProcessPoolExecutor(2) as pool:
        results = list(pool.map(measured, all_jobs, chunksize=len(STRATEGIES)))
    PAGE.write_text(page(sources, dict(zip(all_jobs, results, strict=True))), encoding="utf-8")
    PICTURE.write_text(drawing(), encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
