import math

import pytest

from benchmarks.keys import BARE, LEAN, METERED, PLAIN, REFERENCE
from benchmarks.results import MIB, Results, Sample, Verdict, ext_proc_us, percentile, verdicts

OURS = "ours"


def sample(scenario: str, target: str, cpu: float = 0.0, **changes: float) -> Sample:
    values = {
        "turn": 0, "requests": 1000, "seconds": 1.0, "p50_ms": 1.0, "p99_ms": 2.0, "messages": 3.0,
        "rss_before": 0, "rss_held": 0, "rss_peak": 0, "rss_after": 0, **changes,
    }  # fmt: skip
    return Sample(scenario=scenario, target=target, cpu_us={"ext_proc": cpu, "envoy": 2 * cpu}, **values)  # type: ignore[arg-type]


def verdict(results: Results, beginning: str) -> Verdict:
    (found,) = [one for one in verdicts(results, OURS) if one.title.startswith(beginning)]
    return found


@pytest.mark.parametrize(("share", "expected"), [(0.5, 2), (0.99, 4), (0.25, 1), (1.0, 4)])
def test_percentile_is_a_value_that_the_share_does_not_exceed(share: float, expected: float) -> None:
    assert percentile([4, 1, 3, 2], share) == expected


def test_percentile_of_nothing_is_no_number() -> None:
    assert math.isnan(percentile([], 0.5))


def test_ratio_pairs_samples_of_one_round_so_that_a_slow_round_cancels_out() -> None:
    pairs = [(100, 50), (1000, 500), (120, 60)]
    samples = [sample("s", OURS, ours, turn=i) for i, (ours, _) in enumerate(pairs)]
    samples += [sample("s", BARE, bare, turn=i) for i, (_, bare) in enumerate(pairs)]
    assert Results(samples).ratio(("s", OURS), ("s", BARE), ext_proc_us) == 2.0


def test_ratio_of_what_never_ran_in_one_round_is_unknown() -> None:
    results = Results([sample("s", OURS, 1.0, turn=0), sample("s", BARE, 1.0, turn=1)])
    assert results.ratio(("s", OURS), ("s", BARE), ext_proc_us) is None


def test_added_latency_is_the_median_of_differences_to_envoy_alone() -> None:
    samples = [sample("s", OURS, p50_ms=value, turn=i) for i, value in enumerate((3.0, 9.0, 4.0))]
    samples += [sample("s", PLAIN, p50_ms=value, turn=i) for i, value in enumerate((1.0, 1.0, 1.5))]
    assert Results(samples).added("s", OURS, lambda one: one.p50_ms) == 2.5


@pytest.mark.parametrize(("cpu", "met"), [(150.0, True), (151.0, False)], ids=["at the limit", "above it"])
def test_verdict_on_cpu_compares_with_the_bare_server(cpu: float, met: bool) -> None:
    results = Results([sample("small-32", OURS, cpu), sample("small-32", BARE, 100.0)])
    assert verdict(results, "1 KB chat, 32 clients").met is met


def test_verdict_on_streams_fails_when_chunks_cause_messages() -> None:
    results = Results([sample("small-32", OURS), sample("stream-1", OURS, messages=503.0)])
    found = verdict(results, "ext_proc messages per streamed chunk")
    assert (found.value, found.met) == (1.0, False)


@pytest.mark.parametrize(("mib", "met"), [(299, True), (301, False)])
def test_verdict_on_memory_is_about_what_is_held(mib: int, met: bool) -> None:
    results = Results([sample("held-1000", OURS, rss_held=mib * MIB)])
    assert verdict(results, "memory of one worker").met is met


@pytest.mark.parametrize(("streamed", "met"), [(110.0, True), (120.0, False)], ids=["at the limit", "above it"])
def test_verdict_on_a_stream_keeps_its_limit_whatever_the_bare_server_shows(streamed: float, met: bool) -> None:
    bare = [sample("small-1", BARE, 50.0), sample("stream-1", BARE, 90.0)]
    ours = [sample("small-1", OURS, 100.0), sample("stream-1", OURS, streamed)]
    found = verdict(Results([*bare, *ours]), "ext_proc CPU of a stream of 500")
    assert found.met is met
    assert "bare server: 1.80" in found.shown


def test_verdict_on_the_lean_transport_compares_it_with_the_reference_of_the_same_run() -> None:
    results = Results([sample("small-32", LEAN, 90.0), sample("small-32", REFERENCE, 200.0)])
    found = {one.title: one.met for one in verdicts(results, LEAN)}
    assert found["1 KB chat, 32 clients: ext_proc CPU / grpcio transport"] is True
    assert not any("grpcio transport" in one.title for one in verdicts(results, REFERENCE))


@pytest.mark.parametrize(("cpu", "met"), [(115.0, True), (116.0, False)], ids=["at the limit", "above it"])
def test_verdict_on_metering_compares_it_with_the_same_transport_without(cpu: float, met: bool) -> None:
    results = Results([sample("small-32", LEAN, 100.0), sample("small-32", METERED, cpu)])
    found = {one.title: one.met for one in verdicts(results, METERED)}
    assert found["1 KB chat, 32 clients: ext_proc CPU / not metered"] is met


def test_verdict_on_what_was_not_measured_is_open() -> None:
    assert {(one.met, one.shown) for one in verdicts(Results([]), OURS)} == {(None, "not measured")}
