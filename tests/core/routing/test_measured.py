"""Strategies by readings of engines: whom each prefers, and what happens where readings are missing or old."""

from dataclasses import dataclass, field
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aibrix_extproc.core.fleet.gauge_book import GaugeBook
from aibrix_extproc.core.fleet.gauges import FRESH_SECONDS, STALE_SECONDS, EngineGauges
from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.placing import RouteQuery
from aibrix_extproc.core.routing.measured import Degradation, Measured
from aibrix_extproc.core.routing.pool import Pool
from aibrix_extproc.core.routing.registry import STRATEGIES
from aibrix_extproc.core.routing.signals import Signals
from tests.build import an_endpoint

MEASURED: Final = sorted(name for name, row in STRATEGIES.items() if isinstance(row.make(), Measured))
NOW: Final = 1000.0


@dataclass
class Engine:
    """What one engine says, a second ago and now, and how many of our requests it has now."""

    own: int = 0
    reading: dict[str, object] = field(default_factory=dict)
    before: dict[str, object] | None = None
    age: float = 0.0


def full(**changes: object) -> dict[str, object]:
    """A reading with all series, of an engine that has done the same as all others."""
    values: dict[str, object] = {
        "running": 2.0, "waiting": 0.0, "kv_usage": 0.5, "utilization": 0.5, "prompt_tokens": 200.0,
        "first_tokens": 2.0, "generation_tokens": 100.0, "first_token_seconds": 1.0, "token_gaps": 100.0,
        "token_gap_seconds": 1.0, "own": 0,
    }  # fmt: skip
    return {**values, **changes}


NOTHING: Final = {
    "prompt_tokens": 0.0, "first_tokens": 0.0, "generation_tokens": 0.0, "first_token_seconds": 0.0, "token_gaps": 0.0,
    "token_gap_seconds": 0.0,
}  # fmt: skip


def an_engine(ours: int = 0, *, age: float = 0.0, **changes: object) -> Engine:
    return Engine(ours, full(**changes), full(**NOTHING), age)


def placed(
    strategy: str, *engines: Engine, tick: int = 0, max_tokens: int = 100
) -> tuple[list[str], list[tuple[str, str]]]:
    """Endpoints from best to worst, and what the strategy lacked."""
    endpoints = tuple(an_endpoint(number) for number in range(1, len(engines) + 1))
    load, book = LoadBook(), GaugeBook()
    for endpoint, engine in zip(endpoints, engines, strict=True):
        for _ in range(engine.own):
            load.acquire(endpoint.identity)
        if engine.before is not None:
            book.take(endpoint.identity, EngineGauges(at=NOW - engine.age - 1.0, **engine.before))  # type: ignore[arg-type]
        if engine.reading:
            book.take(endpoint.identity, EngineGauges(at=NOW - engine.age, **engine.reading))  # type: ignore[arg-type]
    signals = Signals(load, tick, gauges=book, now=NOW)
    query = RouteQuery("chat-m", body_bytes=400, max_tokens=max_tokens)
    ranked = STRATEGIES[strategy].make().rank(query, Pool(endpoints), signals, len(endpoints))
    return [one.name for one in ranked], signals.degraded


@pytest.mark.parametrize(
    ("strategy", "better"),
    [
        ("least-kv-cache", {"kv_usage": 0.4}),
        ("least-gpu-cache", {"kv_usage": 0.4}),
        ("least-utilization", {"utilization": 0.4}),
        ("least-busy-time", {"running": 0.0}),
        ("throughput", {"prompt_tokens": 100.0}),
        ("throughput", {"generation_tokens": 60.0}),
        ("least-latency", {"first_token_seconds": 0.5}),
        ("least-latency", {"token_gap_seconds": 0.5}),
        ("load-balance", {"running": 1.0}),
        ("load-balance", {"generation_tokens": 200.0}),
        ("load-balance", {"kv_usage": 0.4}),
    ],
)
def test_strategy_prefers_the_engine_that_does_better(strategy: str, better: dict[str, object]) -> None:
    ranked, lacks = placed(strategy, an_engine(), Engine(0, full(**better), full(**NOTHING)), an_engine())

    assert ranked[0] == "engine-2"
    assert lacks == []


@pytest.mark.parametrize("strategy", MEASURED)
def test_requests_since_the_reading_lead_further_ones_elsewhere(strategy: str) -> None:
    ranked, _ = placed(strategy, an_engine(5), an_engine(0))

    assert ranked == ["engine-2", "engine-1"]


@pytest.mark.parametrize("strategy", MEASURED)
def test_without_readings_our_own_counts_decide_and_the_placement_says_so(strategy: str) -> None:
    ranked, lacks = placed(strategy, Engine(own=3), Engine(own=1), Engine(own=2))

    assert ranked == ["engine-2", "engine-3", "engine-1"]
    assert lacks == [(strategy, Degradation.NO_READINGS)]


@pytest.mark.parametrize("strategy", MEASURED)
def test_readings_that_are_stale_count_as_none(strategy: str) -> None:
    ranked, lacks = placed(strategy, an_engine(1, age=STALE_SECONDS, kv_usage=0.0), an_engine(age=STALE_SECONDS))

    assert ranked[0] == "engine-2"
    assert lacks == [(strategy, Degradation.NO_READINGS)]


@pytest.mark.parametrize("strategy", MEASURED)
def test_an_endpoint_without_a_reading_is_no_better_than_its_peers_and_no_trap(strategy: str) -> None:
    ranked, lacks = placed(strategy, an_engine(2), Engine(own=40), an_engine(2))
    assert ranked[-1] == "engine-2"
    assert lacks == [(strategy, Degradation.SOME_READINGS)]

    busy = an_engine(20, running=20.0, own=20)
    ranked, _ = placed(strategy, busy, Engine(own=0), busy)
    assert ranked[0] == "engine-2"  # it is picked while it has less from us than the others


@pytest.mark.parametrize("strategy", MEASURED)
def test_an_old_reading_counts_less_than_a_fresh_one(strategy: str) -> None:
    half = (FRESH_SECONDS + STALE_SECONDS) / 2
    good = {"kv_usage": 0.1, "utilization": 0.1, "running": 0.0, "prompt_tokens": 10.0, "token_gap_seconds": 0.1}
    good["first_token_seconds"] = 0.01
    engines = (Engine(ours, full(**good), full(**NOTHING), age) for ours, age in ((0, 0.0), (9, half)))
    fresh = placed(strategy, an_engine(), *engines)[0]

    assert fresh[0] == "engine-2"


@pytest.mark.parametrize("strategy", MEASURED)
def test_an_engine_that_sleeps_comes_last_and_is_not_refused(strategy: str) -> None:
    ranked, _ = placed(strategy, an_engine(asleep=True, kv_usage=0.0), an_engine(9, kv_usage=0.8))
    assert ranked == ["engine-2", "engine-1"]

    assert set(placed(strategy, an_engine(asleep=True), an_engine(asleep=True))[0]) == {"engine-1", "engine-2"}


@pytest.mark.parametrize("strategy", ["least-latency", "load-balance"])
def test_engines_without_a_past_are_ranked_by_our_own_counts(strategy: str) -> None:
    ranked, lacks = placed(strategy, Engine(2, full(own=2), full()), Engine(1, full(own=1), full()))

    assert ranked == ["engine-2", "engine-1"]
    assert lacks == [(strategy, Degradation.NO_HISTORY)]


def test_an_engine_with_a_full_kv_cache_comes_last_for_load_balance() -> None:
    ranked, _ = placed("load-balance", an_engine(kv_usage=0.95, running=0.0), an_engine(50))

    assert ranked == ["engine-2", "engine-1"]


SENSE = st.one_of(st.none(), st.floats(0, 1e15), st.just(0.0))


@pytest.mark.parametrize("strategy", MEASURED)
@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(st.integers(0, 5), SENSE, SENSE, SENSE, st.one_of(st.none(), st.floats(0, 1)), st.floats(-10, 100)),
        min_size=1, max_size=6,
    )
)  # fmt: skip
def test_whatever_engines_say_every_endpoint_has_a_score(
    strategy: str, engines: list[tuple[int, float | None, float | None, float | None, float | None, float]]
) -> None:
    made = [
        Engine(
            own,
            full(running=running, prompt_tokens=prompt, token_gap_seconds=gaps, kv_usage=usage),
            full(**NOTHING),
            age,
        )
        for own, running, prompt, gaps, usage, age in engines
    ]

    assert sorted(placed(strategy, *made)[0]) == sorted(f"engine-{number}" for number in range(1, len(made) + 1))
