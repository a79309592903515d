"""What engines and clients say may be wrong, by accident or on purpose: it worsens predictions at most."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.core.fleet.gauges import EngineGauges
from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.openai.wire.prefix import PrefixChain
from aibrix_extproc.core.openai.wire.usage import Usage
from aibrix_extproc.core.routing.pool import Pool
from aibrix_extproc.core.routing.predictor import Ending, Predictor
from aibrix_extproc.core.routing.scorers.predicted import Predicted
from aibrix_extproc.core.routing.signals import Signals
from tests.core.routing.predicting import MODEL, Fleet, a_query, endpoints


def test_silently_lost_cache_is_noticed() -> None:
    fleet = Fleet(16_000)
    blocks = tuple(range(1, 9))
    for turn in range(20):
        fleet.send(a_query(6000 + turn, *blocks), 0, cached=4096 if turn else 0)
        fleet.now += 1
    assert fleet.predictor.index.blocks("e0") == len(blocks) + 20
    asked = 0
    while fleet.predictor.index.blocks("e0") > len(blocks) + 1 and asked < 200:
        fleet.send(a_query(7000 + asked, *blocks), 0)  # nothing is cached any more
        fleet.now += 1
        asked += 1
    assert asked < 20


def test_engine_that_keeps_no_cache_is_not_believed_again_and_again() -> None:
    fleet = Fleet(16_000, 16_000)
    blocks = tuple(range(1, 9))
    confidence = []
    for turn in range(60):
        for engine, cached in ((0, 4096), (1, 0)):
            fleet.send(a_query(6000 + turn, *blocks), engine, cached=cached)
        fleet.now += 1
        confidence.append(fleet.predictor.engine("e1", MODEL).confidence)
    assert max(confidence[10:]) < 0.2
    for turn in range(20):  # now it does
        fleet.send(a_query(7000 + turn, *blocks), 1, cached=4096)
        fleet.now += 1
    assert fleet.predictor.engine("e1", MODEL).confidence > 0.6


@pytest.mark.parametrize("cached", [0, -(2**53), 10**9])
def test_engine_whose_cached_tokens_never_fit_is_believed_less(cached: int) -> None:
    fleet = Fleet(16_000, 16_000)
    blocks = tuple(range(1, 9))
    for turn in range(200):
        fleet.send(a_query(6000 + turn, *blocks), 0, cached=2048)
        fleet.now += 1
        query = a_query(6000 + turn, *blocks)
        fleet.predictor.placed(f"x{turn}", query, "e1", fleet.now)
        fleet.predictor.finished(f"x{turn}", fleet.now + 0.1, head_at=fleet.now)
        fleet.predictor.charged(f"x{turn}", Usage(6000 + turn, 3, 6003 + turn, cached), after_head=0.1)
    engine = fleet.predictor.engine("e1", MODEL)
    assert 0 <= engine.confidence <= 1
    assert fleet.predictor.index.cache_bytes("e1") <= 16e6
    if cached <= 0:
        assert engine.confidence < 0.4


@pytest.mark.parametrize(("hits", "confident"), [(9_000.0, True), (0.0, False), (None, False)])
def test_engine_that_reports_nothing_is_believed_if_its_metrics_say_that_it_finds_something(
    hits: float | None, confident: bool
) -> None:
    fleet = Fleet(16_000, 16_000)
    blocks = tuple(range(1, 9))
    for turn in range(20):
        for engine, reported in ((0, 4096 if turn else 0), (1, 0)):
            fleet.send(a_query(6000 + turn, *blocks), engine, cached=reported)
            fleet.predictor.read(f"e{engine}", EngineGauges(at=fleet.now, cache_hits=hits))
        fleet.now += 1
    assert fleet.predictor.engine("e0", MODEL).confidence > 0.9
    audit = fleet.predictor.audit
    assert (audit.actual_tokens > 0.9 * audit.predicted_tokens) is confident


@pytest.mark.parametrize("ending", [Ending.REFUSED, Ending.FAILED, Ending.LEFT])
def test_prompts_that_no_engine_computes_evict_nothing_and_say_nothing_of_those_before_them(ending: Ending) -> None:
    predictor = Predictor()
    predictor.cache_size("e0", 8_000, MODEL)
    predictor.speeds.prefilled(predictor.engine("e0", MODEL), 1_000)
    hot = a_query(4_000, 1, 2, 3, 4)
    predictor.placed("hot", hot, "e0", 0.0)
    before = predictor.index.cached(hot.prefix or PrefixChain((), ())).of("e0")
    for turn in range(20):  # each would fill the cache, and take 8 s
        predictor.placed(f"r{turn}", a_query(8_000, 100 + turn), "e0", 0.1)
        predictor.finished(f"r{turn}", 0.11, ending, 0.11)
    assert predictor.index.cached(hot.prefix or PrefixChain((), ())).of("e0") == before == 16_000
    assert predictor.wait("e0", 0.11) == pytest.approx(4.0, abs=0.2)
    assert (predictor.avoided("e0", 0.11) > 0) == (ending is Ending.FAILED)


@pytest.mark.parametrize(
    ("ending", "kept"),
    [
        pytest.param(Ending.REFUSED, 16_000, id="a refusal that took long evicts nothing either"),
        pytest.param(Ending.LEFT, 0, id="what was computed before the client left evicts as it does there"),
    ],
)
def test_ends_long_after_a_prompt_could_be_computed(ending: Ending, kept: int) -> None:
    predictor = Predictor()
    predictor.cache_size("e0", 8_000, MODEL)
    hot = a_query(4_000, 1, 2, 3, 4)
    predictor.placed("hot", hot, "e0", 0.0)
    predictor.placed("long", a_query(8_000, 9), "e0", 1.0)
    predictor.finished("long", 60.0, ending)
    assert predictor.index.cached(hot.prefix or PrefixChain((), ())).of("e0") == kept


CALLS = ["placed", "moved", "first", "finished", "failed", "left", "refused", "charged", "cleared", "forget", "waiting"]
LIES = st.integers(-(2**53), 2**53)
TIMES = st.floats(-1e9, 1e9)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(CALLS),
            st.integers(0, 5), st.integers(0, 3), TIMES, LIES, LIES,
        ),
        max_size=60,
    ),
    TIMES,
)  # fmt: skip
def test_lies_and_clocks_that_jump_leave_numbers_that_can_be_compared(
    steps: list[tuple[str, int, int, float, int, int]], now: float
) -> None:
    predictor = Predictor()
    pool = Pool(endpoints(4), MODEL)
    for what, request, engine, at, one, other in steps:
        name, identity = f"r{request}", f"e{engine}"
        match what:
            case "placed":
                predictor.placed(name, a_query(abs(one) % 10**6 + 1, engine, request), identity, at)
            case "moved":
                predictor.moved(name, identity, at)
            case "first":
                predictor.first_token(name, at)
            case "finished":
                predictor.finished(name, at, head_at=at - 1)
            case "failed":
                predictor.finished(name, at, Ending.FAILED)
            case "left":
                predictor.finished(name, at, Ending.LEFT)
            case "refused":
                predictor.finished(name, at, Ending.REFUSED)
            case "charged":
                predictor.charged(name, Usage(one, other, one, other), after_head=float(one))
            case "cleared":
                predictor.cleared(identity)
            case "waiting":
                predictor.read(identity, EngineGauges(at=at, waiting=float(abs(one)), first_tokens=float(abs(one))))
            case "forget":
                predictor.forget(identity)
    seconds = predictor.first_token_seconds(a_query(1000, 1), pool, now)
    assert all(math.isfinite(one) and one >= 0 for one in seconds)
    scores = Predicted().scores(a_query(1000, 1), pool, Signals(LoadBook(), 1, now=now, predictor=predictor))
    assert all(0 <= one <= 1 for one in scores)
    assert max(scores) == 1
