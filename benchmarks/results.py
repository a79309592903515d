"""From samples to figures, without I/O: medians over rounds, ratios of targets in the same round, verdicts."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from benchmarks.keys import BARE, LEAN, METERED, METERED_REFERENCE, PLAIN, REFERENCE
from benchmarks.scenarios import BIG_BYTES, STREAM_CHUNKS

MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Sample:
    """One scenario on one target in one round. CPU is microseconds per request by part, RSS is ext_proc's in bytes."""

    scenario: str
    target: str
    turn: int
    requests: int
    seconds: float
    cpu_us: Mapping[str, float]
    p50_ms: float
    p99_ms: float
    messages: float  # ext_proc messages of Envoy per exchange
    rss_before: int
    rss_held: int
    rss_peak: int
    rss_after: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """One figure to reach. `value` is None when the run did not measure it."""

    title: str
    value: float | None
    shown: str
    target: str
    met: bool | None


def percentile(values: Sequence[float], share: float) -> float:
    """The value that at least this share of all does not exceed."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


class Results:
    """All samples of a run."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self.samples = tuple(samples)
        self._by_place: dict[tuple[str, str], dict[int, Sample]] = {}
        for one in self.samples:
            self._by_place.setdefault((one.scenario, one.target), {})[one.turn] = one

    def has(self, scenario: str, target: str) -> bool:
        """Whether it was measured."""
        return (scenario, target) in self._by_place

    def of(self, scenario: str, target: str) -> tuple[Sample, ...]:
        """The samples of all rounds."""
        return tuple(self._by_place.get((scenario, target), {}).values())

    def median(self, scenario: str, target: str, value: Callable[[Sample], float]) -> float | None:
        """The median over rounds."""
        found = [value(one) for one in self.of(scenario, target)]
        return median(found) if found else None

    def ratio(self, over: tuple[str, str], under: tuple[str, str], value: Callable[[Sample], float]) -> float | None:
        """The median of the ratios within each round: what slows a whole round down cancels out."""
        return self._paired(over, under, lambda a, b: value(a) / value(b) if value(b) else math.nan)

    def added(self, scenario: str, target: str, value: Callable[[Sample], float]) -> float | None:
        """What a target adds to Envoy alone, as the median of the differences within each round."""
        return self._paired((scenario, target), (scenario, PLAIN), lambda a, b: value(a) - value(b))

    def difference(
        self, over: tuple[str, str], under: tuple[str, str], value: Callable[[Sample], float]
    ) -> float | None:
        """The median of the differences within each round."""
        return self._paired(over, under, lambda a, b: value(a) - value(b))

    def _paired(
        self, one: tuple[str, str], other: tuple[str, str], combine: Callable[[Sample, Sample], float]
    ) -> float | None:
        left, right = self._by_place.get(one, {}), self._by_place.get(other, {})
        found = [combine(left[turn], right[turn]) for turn in left.keys() & right.keys()]
        return median(found) if found else None


def ext_proc_us(sample: Sample) -> float:
    """CPU of the ext_proc server per request."""
    return sample.cpu_us.get("ext_proc", 0.0)


def envoy_us(sample: Sample) -> float:
    """CPU of Envoy per request."""
    return sample.cpu_us.get("envoy", 0.0)


def verdicts(results: Results, ours: str) -> tuple[Verdict, ...]:
    """The figures to reach, for one of our targets."""
    common = _common_verdicts(results, ours)
    return (*common, *_FURTHER[ours](results, ours)) if ours in _FURTHER else common


def _common_verdicts(results: Results, ours: str) -> tuple[Verdict, ...]:
    chat, stream = _messages(results, "small-32", ours), _messages(results, "stream-1", ours)
    per_token = None if chat is None or stream is None else (stream - chat) / STREAM_CHUNKS
    return (
        _at_most("ext_proc messages per chat exchange", chat, 3, "{:.2f}"),
        _at_most("ext_proc messages per exchange that streams", stream, 3, "{:.2f}"),
        _at_most("ext_proc messages per streamed chunk", per_token, 0, "{:.3f}"),
        _at_most(
            "1 KB chat, 32 clients: ext_proc CPU / bare server",
            results.ratio(("small-32", ours), ("small-32", BARE), ext_proc_us), 1.5,
        ),
        _at_most(
            "1 KB chat, 1 client: ext_proc CPU / bare server",
            results.ratio(("small-1", ours), ("small-1", BARE), ext_proc_us), 1.5,
        ),
        _at_most(
            "ext_proc CPU of a 220 KB prompt / of a 1 KB chat, 1 client",
            results.ratio(("prompt-1", ours), ("small-1", ours), ext_proc_us), 2.5,
        ),
        _stream_verdict(results, ours),
        _at_most(
            "memory of one worker that holds 1,000 streams, MiB",
            _mib(results.median("held-1000", ours, lambda one: one.rss_held)), 300, "{:.0f}",
        ),
        _at_most(
            "growth of memory at 4 bodies of 5 MB in flight, in bodies per body",
            results.median("big-4", ours, lambda one: (one.rss_peak - one.rss_before) / (4 * BIG_BYTES)), 6,
        ),
    )  # fmt: skip


def _stream_verdict(results: Results, ours: str) -> Verdict:
    """The limit is the issue's own; what the bare server shows stands beside it and changes nothing."""
    found = results.ratio(("stream-1", ours), ("small-1", ours), ext_proc_us)
    bare = results.ratio(("stream-1", BARE), ("small-1", BARE), ext_proc_us)
    form = "{:.2f}" if bare is None else "{:.2f} (bare server: " + f"{bare:.2f})"
    title = "ext_proc CPU of a stream of 500 chunks back to back / of a non-streaming reply, 1 client"
    return _at_most(title, found, 1.1, form, " (1, and 10 % for noise)")


def _lean_verdicts(results: Results, ours: str) -> tuple[Verdict, ...]:
    """What the lean transport must reach beyond what every transport must; both do the same work."""
    reference = METERED_REFERENCE if ours == METERED else REFERENCE

    def ratio(scenario: str, value: Callable[[Sample], float]) -> float | None:
        return results.ratio((scenario, ours), (scenario, reference), value)

    return (
        _at_most("1 KB chat, 32 clients: ext_proc CPU / grpcio transport", ratio("small-32", ext_proc_us), 0.5),
        _at_most(
            "1 KB chat, 32 clients: ext_proc CPU, us",
            results.median("small-32", ours, ext_proc_us), 200, "{:.0f}",
        ),
        _at_most(
            "220 KB prompt, 1 client: ext_proc CPU, us",
            results.median("prompt-1", ours, ext_proc_us), 500, "{:.0f}",
        ),
        _at_most(
            "1 KB chat, 1 client: added p50, ms", results.added("small-1", ours, lambda one: one.p50_ms), 0.88
        ),
        _at_most(
            "memory of one worker that holds 5,000 streams, MiB",
            _mib(results.median("held-5000", ours, lambda one: one.rss_held)), 300, "{:.0f}",
        ),
        _at_most("1 KB chat, 32 clients: p99 / grpcio transport", ratio("small-32", lambda one: one.p99_ms), 0.5),
    )  # fmt: skip


def _metered_verdicts(results: Results, ours: str) -> tuple[Verdict, ...]:
    """What an exchange may cost with everything on: notes, stream filter and an access log entry that is counted."""

    def ratio(scenario: str) -> float | None:
        return results.ratio((scenario, ours), (scenario, LEAN), ext_proc_us)

    def added(scenario: str) -> float | None:
        return results.difference((scenario, ours), (scenario, LEAN), envoy_us)

    token = added("stream-1")
    return (
        *_lean_verdicts(results, ours),
        _at_most("1 KB chat, 32 clients: ext_proc CPU / not metered", ratio("small-32"), 1.15),
        _at_most("1 KB chat, 1 client: ext_proc CPU / not metered", ratio("small-1"), 1.15),
        _at_most("answer of 1.5 KB, 32 clients: Envoy CPU over not metered, us", added("answer-1k5"), 45, "{:.0f}"),
        _at_most("answer of 60 KB, 32 clients: Envoy CPU over not metered, us", added("answer-60k"), 35, "{:.0f}"),
        _at_most(
            "each token of a stream: Envoy CPU over not metered, us",
            None if token is None else token / STREAM_CHUNKS,
            1,
        ),
    )


_FURTHER: Final[Mapping[str, Callable[[Results, str], tuple[Verdict, ...]]]] = {
    LEAN: _lean_verdicts,
    METERED: _metered_verdicts,
}


def _at_most(title: str, value: float | None, limit: float, form: str = "{:.2f}", note: str = "") -> Verdict:
    if value is None:
        return Verdict(title, None, "not measured", f"≤ {limit:g}{note}", None)
    return Verdict(title, value, form.format(value), f"≤ {limit:g}{note}", value <= limit + 1e-9)


def _messages(results: Results, scenario: str, target: str) -> float | None:
    return results.median(scenario, target, lambda one: one.messages)


def _mib(value: float | None) -> float | None:
    return None if value is None else value / MIB
