"""The predictor learns speeds and caches from what happens, and does not believe everything."""

import math
import random
from collections import Counter

import pytest

from aibrix_extproc.core.fleet.gauges import EngineGauges
from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.openai.wire.usage import Usage
from aibrix_extproc.core.placing import RouteQuery
from aibrix_extproc.core.routing.pool import Pool
from aibrix_extproc.core.routing.predictor import Ending, Predictor
from aibrix_extproc.core.routing.scorers.predicted import Predicted
from aibrix_extproc.core.routing.signals import Signals
from tests.core.routing.predicting import MODEL, Fleet, a_query, endpoints


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
