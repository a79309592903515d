"""The page and the tables, without I/O: results in, Markdown out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.keys import BARE, PLAIN
from benchmarks.peers import BARE_THEN, PEERS, Peer
from benchmarks.results import MIB, Results, Sample, Verdict, envoy_us, ext_proc_us, verdicts
from benchmarks.scenarios import BIG_BYTES, STREAM_CHUNKS, Scenario

NOTHING: Final = "-"
Value = Callable[[Sample], float]


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Facts of the run for the reader."""

    date: str
    cores: int
    architecture: str
    rounds: int
    envoy_workers: int
    load: tuple[float, float]  # one-minute load averages before and after
    versions: Mapping[str, str]


def number(value: float | None, digits: int = 0) -> str:
    """A figure for a table."""
    return NOTHING if value is None else f"{value:.{digits}f}"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns line up."""
    widths = [max(len(row[i]) for row in (heads, *rows)) for i in range(len(heads))]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    return "\n".join((line(heads), "|" + "|".join("-" * (width + 2) for width in widths) + "|", *map(line, rows)))


def costs(results: Results, scenarios: Sequence[Scenario], titles: Mapping[str, str]) -> str:
    """CPU and latency of every scenario that sends requests."""
    heads = ("request", "target", "ext_proc µs (least to most)", "Envoy µs", "messages", "p50 ms", "p99 ms",
             "added p50", "added p99", "requests/s")  # fmt: skip
    rows = [
        _cost_row(results, scenario, target, title)
        for scenario in scenarios
        if scenario.requests
        for target, title in titles.items()
        if results.has(scenario.key, target)
    ]
    return table(heads, rows)


def _cost_row(results: Results, scenario: Scenario, target: str, title: str) -> tuple[str, ...]:
    ours = sorted(map(ext_proc_us, results.of(scenario.key, target)))
    alone = target == PLAIN

    def middle(value: Value, digits: int = 0) -> str:
        return number(results.median(scenario.key, target, value), digits)

    def added(value: Value) -> str:
        return number(None if alone or scenario.chunks else results.added(scenario.key, target, value), 2)

    return (
        scenario.title,
        title,
        NOTHING if alone else f"{middle(ext_proc_us)} ({ours[0]:.0f} to {ours[-1]:.0f})",
        middle(envoy_us),
        NOTHING if alone else middle(lambda one: one.messages, 2),
        middle(lambda one: one.p50_ms, 2),
        middle(lambda one: one.p99_ms, 2),
        added(lambda one: one.p50_ms),
        added(lambda one: one.p99_ms),
        middle(lambda one: one.requests / one.seconds, 0 if scenario.chunks == 0 else 1),
    )


def idle(results: Results, titles: Mapping[str, str]) -> str:
    """What waiting costs: health checks, polls, timers."""
    rows = [
        (title, *(number((results.median("idle", target, value) or 0) / 1e4, 2) for value in (ext_proc_us, envoy_us)))
        for target, title in titles.items()
        if results.has("idle", target)
    ]
    return table(("target", "ext_proc, % of a core", "Envoy, % of a core"), rows)


def memory(results: Results, scenarios: Sequence[Scenario], titles: Mapping[str, str]) -> str:
    """Resident memory of the ext_proc servers."""
    columns: tuple[Value, ...] = (
        lambda one: one.rss_before / MIB,
        lambda one: one.rss_held / MIB,
        lambda one: one.rss_peak / MIB,
        lambda one: one.rss_after / MIB,
    )
    rows = [
        (scenario.title, title, *(number(results.median(scenario.key, target, value)) for value in columns))
        for scenario in scenarios
        if scenario.key == "idle" or scenario.body_bytes == BIG_BYTES or PLAIN in scenario.not_on
        for target, title in titles.items()
        if target != PLAIN and results.has(scenario.key, target)
    ]
    return table(("request", "target", "MiB before", "halfway", "peak", "after"), rows)


def figures(found: Sequence[Verdict]) -> str:
    """The figures to reach and whether they are."""
    words = {True: "met", False: "**not met**", None: NOTHING}
    return table(
        ("figure", "measured", "to reach", ""), [(one.title, one.shown, one.target, words[one.met]) for one in found]
    )


def peers(results: Results, ours: Mapping[str, str]) -> str:
    """Published figures, and ours beside them; the columns with an x are times the bare server of the same run."""
    heads = ("server", "1 KB, 1 client", "1 KB, 32 clients", "220 KB, 1 client", "per chunk", "5 MB, ms",
             "added p50 ms", "1 KB, 32 x bare", "220 KB x bare")  # fmt: skip
    rows = [_peer_row(peer) for peer in PEERS]
    rows += [_own_row(results, target, title) for target, title in ours.items() if results.has("small-32", target)]
    return table(heads, rows)


def _peer_row(peer: Peer) -> tuple[str, ...]:
    prompt, bare_prompt = peer.prompt_1, BARE_THEN.prompt_1
    return (
        peer.name,
        _pair(peer.small_1),
        _pair(peer.small_32),
        _pair(prompt),
        _pair(peer.per_chunk, 1),
        number(peer.big_ms),
        number(peer.added_p50_ms, 2),
        number(peer.small_32[0] / BARE_THEN.small_32[0], 2),
        number(prompt[0] / bare_prompt[0] if prompt and bare_prompt else None, 2),
    )


def _own_row(results: Results, target: str, title: str) -> tuple[str, ...]:
    def pair(scenario: str) -> tuple[float, float] | None:
        gateway = results.median(scenario, target, ext_proc_us)
        envoy = results.median(scenario, target, envoy_us)
        return None if gateway is None or envoy is None else (gateway, envoy)

    streamed = pair("paced-16")
    per_chunk = tuple(whole / STREAM_CHUNKS for whole in streamed) if streamed else None
    big = results.median("big-1", target, ext_proc_us)
    return (
        f"this run: {title}",
        _pair(pair("small-1")),
        _pair(pair("small-32")),
        _pair(pair("prompt-1")),
        _pair(per_chunk, 1),
        number(None if big is None else big / 1000),
        number(results.added("small-1", target, lambda one: one.p50_ms), 2),
        number(results.ratio(("small-32", target), ("small-32", BARE), ext_proc_us), 2),
        number(results.ratio(("prompt-1", target), ("prompt-1", BARE), ext_proc_us), 2),
    )


def _pair(pair: Sequence[float] | None, digits: int = 0) -> str:
    return NOTHING if pair is None else f"{pair[0]:.{digits}f} / {pair[1]:.{digits}f}"


def page(
    results: Results,
    scenarios: Sequence[Scenario],
    titles: Mapping[str, str],
    ours: Mapping[str, str],
    where: Sequence[str],
    about: Circumstances,
) -> str:
    """The whole page. `titles` names every target of the run, `ours` this project's; `where` the microseconds go."""
    servers = {key: title for key, title in titles.items() if key != PLAIN}
    versions = ", ".join(f"{name} {version}" for name, version in about.versions.items())
    parts = [
        _HEAD.format(
            date=about.date, cores=about.cores, architecture=about.architecture, rounds=about.rounds,
            workers=about.envoy_workers, versions=versions,
            before=about.load[0], after=about.load[1],
        ),
    ]  # fmt: skip
    for target, title in ours.items():
        parts += [f"## Figures to reach: {title}", figures(verdicts(results, target))]
    parts += ["## CPU and latency", _COSTS, costs(results, scenarios, titles)]
    parts += ["## Memory of the ext_proc server", memory(results, scenarios, titles)]
    parts += ["## Doing nothing", idle(results, titles)]
    parts += where
    parts += ["## Beside other ext_proc servers", _PEERS, peers(results, servers)]
    return "\n\n".join(parts) + "\n"


_HEAD: Final = """# Benchmarks

Generated by `make bench`; do not edit. Measured on {date}: {cores} cores ({architecture});
{versions};
Envoy with {workers} worker thread(s), medians of {rounds} rounds (paced streams at most 2, the 1,000 streams 1).
Load average of the machine {before:.1f} before the run and {after:.1f} at its end: the rig alone makes
about 2; anything above is other work on the same cores, which makes
everything dearer, most of all what wakes threads.

Reproduce with `make bench`, or a part of it: `make bench ARGS="--quick --scenarios small-1 small-32"`
(`make bench ARGS=--help` lists everything). Compare ratios; absolute figures belong to the machine.

The rig starts one constant engine on four ports, and for each target an Envoy of its own with the configuration that
`aibrix-extproc local` ships (*Envoy alone*: the same without the ext_proc filter). Every scenario runs on every target
in turn, round after round. Requests carry the 15 headers of openai-python over keep-alive HTTP/1.1 connections, in a
closed loop; replies are checked, and a single error ends the run. The *bare* server is the floor for Python on
`grpc.aio` and uvloop: it answers the same three messages with constant bytes and neither parses nor builds one."""
_COSTS: Final = """CPU is user and system time of all threads, per request, between the first measured request
and the last answer. *Messages* are those that Envoy sent to ext_proc per exchange. *Added* is the difference to Envoy
alone in the same round. Latencies of streams are those of the whole stream. Chunks that are sent back to back reach
Envoy several at a time; paced ones reach it one by one."""
_PEERS: Final = """Rows without *this run* were measured earlier on another run of the same kind of rig (two shared
cores, Envoy 1.40, the same requests): microseconds of CPU of the server / of Envoy per request, or per chunk of a paced
stream. Absolute figures of the two runs do not compare; the last two columns do, each against the bare server of its
own run."""
