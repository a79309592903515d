"""The simulation: repeatable, and with the effects that strategies are known for."""

from collections import Counter

import pytest

from aibrix_extproc.core.routing.mix import InvalidMix
from aibrix_extproc.core.routing.registry import STRATEGIES
from aibrix_extproc.replay.compare import Setting, compared, router_of
from aibrix_extproc.replay.engine_model import EngineShape
from aibrix_extproc.replay.figures import Figures, quantile
from aibrix_extproc.replay.peers import PEERS
from aibrix_extproc.replay.simulation import Outcome
from aibrix_extproc.replay.trace import Request, Trace, sped_up, trace_of
from aibrix_extproc.replay.workloads.table import WORKLOADS

TRACE = sped_up(WORKLOADS["rag"].make(1, 200), 0.2)
FOUR = Setting(4)


def run(strategy: str, trace: Trace = TRACE, setting: Setting = FOUR) -> tuple[Figures, Outcome]:
    return compared(trace, [strategy], setting)[0]


@pytest.mark.parametrize("strategy", [*STRATEGIES, *PEERS, "least-request:2,random:1"])
def test_every_request_is_answered_once_and_the_same_seed_gives_the_same(strategy: str) -> None:
    found, outcome = run(strategy)
    assert all(one.arrived < one.first_token <= one.finished for one in outcome.visits)
    assert [one.number for one in outcome.visits] == list(range(200))
    assert run(strategy)[0] == found


def test_a_name_that_is_no_strategy_is_refused() -> None:
    with pytest.raises(InvalidMix):
        router_of("best")


def test_round_robin_takes_turns_and_each_gateway_has_its_own() -> None:
    assert set(Counter(run("round-robin")[1].engines).values()) == {50}
    several = Counter(run("round-robin", setting=Setting(4, gateways=3))[1].engines)
    assert max(several.values()) > 50


def test_the_longest_prefix_alone_sends_everything_to_the_engine_that_has_what_all_share() -> None:
    requests = [Request(0.1 * number, 2000, 1, (0, 1 + number)) for number in range(50)]
    shares = Counter(run("longest-prefix", trace_of("shared", requests))[1].engines)
    assert sorted(shares.values()) == [50]


def test_least_request_avoids_a_slow_engine_and_round_robin_does_not() -> None:
    slow = Setting(4, slow=((2, 10.0),))
    shares = {name: Counter(run(name, setting=slow)[1].engines)[2] for name in ("round-robin", "least-request")}
    assert shares["round-robin"] == 50
    assert shares["least-request"] < 40


def test_more_engines_wait_less() -> None:
    few, many = (run("least-request", setting=Setting().with_engines(count))[0] for count in (3, 6))
    assert many.ttft_p95 < few.ttft_p95
    assert Setting(8, slow=((7, 2.0),)).with_engines(4).slow == ()


def test_gateways_that_share_find_as_much_in_caches_as_one() -> None:
    trace = WORKLOADS["multi-turn"].make(1, 1_200)
    alone, apart, together = (
        run("predicted", trace, Setting(gateways=gateways, share_seconds=seconds))[0].hit_rate
        for gateways, seconds in ((1, None), (3, None), (3, 0.025))
    )
    assert apart < 0.9 * alone
    assert together > 0.97 * alone


def test_an_engine_that_joins_cold_is_neither_flooded_nor_starved() -> None:
    trace = WORKLOADS["rag"].make(1, 1_800)
    joins_at = trace.seconds * 0.4
    cold = EngineShape(joins_at=joins_at, cold_seconds=30.0, cold_factor=10.0)
    _, outcome = run("predicted", trace, Setting(late=((7, cold),)))

    def share(start: float, end: float) -> float:
        engines = [
            engine
            for visit, engine in zip(outcome.visits, outcome.engines, strict=True)
            if start <= visit.arrived - joins_at < end
        ]
        return engines.count(7) / len(engines)

    assert share(-joins_at, 0.0) == 0.0
    assert 0.0 < share(0.0, 30.0) < 1 / 8
    assert share(40.0, trace.seconds) > 1 / 16


def test_requests_that_are_skipped_do_not_count() -> None:
    figures = compared(TRACE, ["round-robin"], Setting(4, skip=100))[0][0]
    assert figures.requests == 100


def test_quantiles_are_values_that_were_seen() -> None:
    values = [float(value) for value in range(1, 101)]
    assert [quantile(values, share) for share in (0.0, 0.5, 0.95, 0.99, 1.0)] == [1, 50, 95, 99, 100]
