"""The predictor learns speeds and caches from what happens, and does not believe everything."""

import math
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.core.fleet.gauges import EngineGauges
from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.openai.wire.prefix import PrefixChain
from aibrix_extproc.core.openai.wire.usage import Usage
from aibrix_extproc.core.placing import RouteQuery
from aibrix_extproc.core.routing.pool import Pool
from aibrix_extproc.core.routing.predictor import Ending, Predictor
from aibrix_extproc.core.routing.scorers.predicted import Predicted
from aibrix_extproc.core.routing.signals import Signals

MODEL = "m"
BYTES = 4  # for a token


def endpoints(count: int) -> tuple[Endpoint, ...]:
    return tuple(Endpoint(identity=f"e{number}", address=f"10.0.0.{number}:8000") for number in range(count))


def a_query(tokens: int, *blocks: int) -> RouteQuery:
    """A prompt of so many tokens. It has these blocks of 512 tokens, and nothing in common with others behind them."""
    ends = tuple(512 * BYTES * place for place in range(1, len(blocks) + 1))
    rest = tokens * BYTES - (ends[-1] if ends else 0)
    chain = PrefixChain((*blocks, hash((blocks, tokens)) & 2**63 - 1), (*ends, (ends[-1] if ends else 0) + rest))
    return RouteQuery(MODEL, body_bytes=tokens * BYTES, prefix=chain)


class Fleet:
    """Engines that compute prompts one after the other, and the predictor that is told of it."""

    def __init__(self, *speeds: float) -> None:
        self.predictor = Predictor()
        self.endpoints = endpoints(len(speeds))
        self.speeds = speeds
        self.free_at = [0.0] * len(speeds)
        self.scorer = Predicted()
        self.now = 0.0
        self.count = 0

    def pick(self, query: RouteQuery) -> int:
        signals = Signals(LoadBook(), self.count, now=self.now, predictor=self.predictor)
        first = self.scorer.rank(query, Pool(self.endpoints, MODEL), signals, 1)[0]
        return self.endpoints.index(first)

    def send(self, query: RouteQuery, engine: int, *, cached: int = 0, output: int = 10) -> float:
        """Place a request, and tell what became of it at once; returns its time to the first token."""
        self.count += 1
        name, identity = f"r{self.count}", self.endpoints[engine].identity
        self.predictor.placed(name, query, identity, self.now)
        tokens = query.body_bytes // BYTES
        first = max(self.free_at[engine], self.now) + (tokens - cached) / self.speeds[engine]
        self.free_at[engine] = first
        self.predictor.finished(name, first + 0.02 * (output - 1), head_at=self.now)
        usage = Usage(tokens, output, tokens + output, cached)
        self.predictor.charged(name, usage, after_head=first - self.now)
        return first - self.now


def test_speeds_are_learned_from_first_tokens() -> None:
    fleet = Fleet(16_000, 3_200)
    for _ in range(40):
        for engine in (0, 1):
            fleet.send(a_query(3000 + fleet.count), engine)
        fleet.now += 1.2
    assert fleet.predictor.speed("e0") == pytest.approx(16_000, rel=0.1)
    assert fleet.predictor.speed("e1") == pytest.approx(3_200, rel=0.1)


def test_new_engine_begins_with_the_median_of_its_peers() -> None:
    fleet = Fleet(30_000, 30_000, 30_000, 30_000)
    for turn in range(60):
        fleet.send(a_query(3000 + turn), turn % 3)
        fleet.now += 1
    fleet.predictor.engine("new", MODEL)
    assert fleet.predictor.speed("new") == pytest.approx(30_000, rel=0.15)


@pytest.mark.parametrize("least", [1e-3, 1e8, math.inf, math.nan])
def test_no_engine_is_believed_to_be_far_from_its_peers(least: float) -> None:
    predictor = Predictor()
    for _ in range(300):
        for identity in ("a", "b", "c"):
            predictor.speeds.prefilled(predictor.engine(identity, MODEL), 10_000)
        predictor.speeds.prefilled(predictor.engine("odd", MODEL), least)
    assert 10_000 / 8.1 <= predictor.speed("odd") <= 10_000 * 8.1
    assert predictor.speed("a") == pytest.approx(10_000, rel=0.05)


def test_prompts_that_end_in_one_step_are_not_taken_for_infinite_speed() -> None:
    predictor = Predictor()
    for turn in range(100):
        now = 2.0 * turn
        for part in "abcd":  # four prompts of 1,000 tokens, all done after 0.4 s
            predictor.placed(f"{turn}{part}", a_query(1000, 10 * turn + ord(part)), "e0", now)
        for part in "abcd":
            predictor.first_token(f"{turn}{part}", now + 0.4)
            predictor.finished(f"{turn}{part}", now + 0.5)
            predictor.charged(f"{turn}{part}", Usage(1000, 5, 1005))
    assert predictor.speed("e0") == pytest.approx(10_000, rel=0.15)


def test_block_that_all_prompts_share_does_not_pull_all_to_one_engine() -> None:
    fleet = Fleet(16_000, 16_000, 16_000, 16_000)
    rng = random.Random(5)
    counts: Counter[int] = Counter()
    for turn in range(400):
        query = a_query(2000 + turn, 1)  # block 1 is in every prompt
        engine = fleet.pick(query)
        counts[engine] += 1
        fleet.send(query, engine, cached=512)
        fleet.now += rng.expovariate(20)
    assert max(counts.values()) <= 0.35 * 400


def test_slow_engine_that_looks_idle_gets_little() -> None:
    fleet = Fleet(16_000, 16_000, 16_000, 1_600)
    counts: Counter[int] = Counter()
    for turn in range(600):
        query = a_query(2000 + turn)
        engine = fleet.pick(query)
        counts[engine] += turn >= 200
        fleet.send(query, engine)
        fleet.now += 0.1  # an engine in four is busy
    assert sum(counts.values()) > 0
    assert counts[3] <= 0.03 * sum(counts.values())


def test_engine_that_fails_is_left_and_tried_again() -> None:
    fleet = Fleet(16_000, 16_000)
    for turn in range(20):
        fleet.send(a_query(1000 + turn), turn % 2)
        fleet.now += 1
    for turn in range(3):
        fleet.predictor.placed(f"bad{turn}", a_query(900), "e0", fleet.now)
        fleet.predictor.finished(f"bad{turn}", fleet.now + 0.01, Ending.FAILED)
    picks = {fleet.pick(a_query(5000 + turn)) for turn in range(10)}
    assert picks == {1}
    fleet.now += 31
    picks = set()
    for _ in range(2):
        fleet.count += 1
        picks.add(fleet.pick(a_query(5000)))
    assert picks == {0, 1}


def test_engine_that_accepts_and_never_answers_is_left() -> None:
    fleet = Fleet(16_000, 16_000)
    for turn in range(40):
        fleet.send(a_query(1000 + turn), turn % 2, output=5)
        fleet.now += 1
    for turn in range(4):
        fleet.predictor.placed(f"stuck{turn}", a_query(900), "e0", fleet.now)
    fleet.now += 60
    for turn in range(10):
        assert fleet.pick(a_query(4000 + turn)) == 1
        fleet.count += 1


def test_request_that_a_retry_took_elsewhere_is_booked_there() -> None:
    predictor = Predictor()
    predictor.speeds.prefilled(predictor.engine("a", MODEL), 8000)
    predictor.engine("b", MODEL)
    predictor.placed("r", a_query(80_000), "a", 1.0)
    predictor.moved("r", "b", 1.0)
    assert predictor.wait("a", 1.0) == 0
    assert predictor.wait("b", 1.0) > 5
    assert predictor.avoided("a", 1.0) > 0
    predictor.finished("r", 2.0)
    assert predictor.wait("b", 2.0) == 0


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


@pytest.mark.parametrize("cached", [0, 10**9])
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
    if not cached:
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


def test_ids_that_clients_repeat_leave_no_work_behind() -> None:
    predictor = Predictor()
    for turn in range(50):
        predictor.placed("same", a_query(1000 + turn), "e0", 1.0)
    for _ in range(50):
        predictor.finished("same", 2.0)
    engine = predictor.engine("e0", MODEL)
    assert (engine.running, engine.tokens) == (0, 0.0)


def test_without_charges_work_in_flight_is_what_counts() -> None:
    predictor = Predictor()
    pool = Pool(endpoints(2), MODEL)
    for turn in range(5):
        predictor.placed(f"r{turn}", a_query(4000 + turn), "e0", 1.0)
    seconds = predictor.first_token_seconds(a_query(100), pool, 1000.0)
    assert seconds[0] > 5 * seconds[1]


def test_engine_that_says_that_requests_wait_is_left() -> None:
    fleet = Fleet(16_000, 16_000)
    for turn in range(40):
        fleet.send(a_query(1000 + turn), turn % 2)
        fleet.now += 1
    fleet.predictor.read("e0", EngineGauges(at=fleet.now, waiting=20.0))
    for turn in range(10):
        assert fleet.pick(a_query(3000 + turn)) == 1
        fleet.count += 1
    fleet.now += 31  # the reading is too old to be believed
    picks = set()
    for _ in range(2):
        fleet.count += 1
        picks.add(fleet.pick(a_query(5000)))
    assert picks == {0, 1}


def test_prompt_stays_with_its_beginning_where_others_would_wait_for_it() -> None:
    """Alone it would be quicker elsewhere; but there it would be computed anew, and delay those that come."""
    fleet = Fleet(16_000, 16_000)
    for turn in range(40):
        fleet.send(a_query(1000 + turn), turn % 2)
        fleet.now += 1
    blocks = tuple(range(1, 17))
    fleet.send(a_query(8200, *blocks), 0)
    fleet.now += 10
    for engine, tokens in ((0, 8000), (0, 900), *[(1, 1400)] * 6):
        fleet.count += 1
        fleet.predictor.placed(f"now{fleet.count}", a_query(tokens + fleet.count), f"e{engine}", fleet.now)
    query, pool = a_query(9000, *blocks), Pool(fleet.endpoints, MODEL)
    seconds = fleet.predictor.first_token_seconds(query, pool, fleet.now)
    costs, _ = fleet.predictor.costs(query, pool, fleet.now)
    assert costs[1] - costs[0] > seconds[1] - seconds[0]
    assert fleet.pick(query) == 0


CALLS = ["placed", "moved", "first", "finished", "failed", "left", "charged", "cleared", "forget", "waiting"]
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
            case "charged":
                predictor.charged(name, Usage(abs(one), abs(other), abs(one), abs(other)), after_head=float(one))
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


def test_embeddings_without_a_prefix_are_placed_by_their_bytes() -> None:
    predictor = Predictor()
    predictor.speeds.prefilled(predictor.engine("e0", MODEL), 8000)
    predictor.placed("big", RouteQuery(MODEL, body_bytes=400_000), "e0", 1.0)
    pool = Pool(endpoints(2), MODEL)
    slow, fast = predictor.first_token_seconds(RouteQuery(MODEL, body_bytes=400), pool, 1.0)
    assert slow > 100 * fast


def test_reported_size_of_a_cache_bounds_what_is_remembered() -> None:
    predictor = Predictor()
    predictor.cache_size("e0", 2048, MODEL)
    for turn in range(20):
        predictor.placed(f"r{turn}", a_query(512, turn), "e0", 1.0)
    assert predictor.index.blocks("e0") <= 2 * 2048 // 512  # each prompt has a block and an empty rest


def test_explanation_has_the_seconds_and_the_cached_tokens_of_each_endpoint() -> None:
    fleet = Fleet(16_000, 16_000)
    query = a_query(4096, 1, 2, 3, 4)
    fleet.send(query, 1)
    fleet.now += 10
    signals = Signals(LoadBook(), 0, now=fleet.now, predictor=fleet.predictor)
    pool = Pool(fleet.endpoints, MODEL)
    scorer = Predicted()
    scorer.rank(query, pool, signals, 2)
    details = scorer.explain(query, pool, signals)
    assert [round(one) for one in details["predicted_cached_tokens"]] == [0, 4096]
    assert details["predicted_ttft_seconds"][0] > 100 * details["predicted_ttft_seconds"][1]
