"""What one process has learned helps the next one, whatever somebody has written in its place."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.core.openai.wire.usage import Usage
from aibrix_extproc.core.placing import RouteQuery
from aibrix_extproc.core.routing.learned import MAX_BYTES, learned, remember
from aibrix_extproc.core.routing.predictor import Predictor

QUERY = RouteQuery("m", body_bytes=6_000)


def serve(predictor: Predictor, identity: str, seconds: float, *, times: int = 3) -> None:
    """Requests of 2,000 tokens whose first tokens come after so many seconds."""
    for number in range(times):
        at = 100.0 * number
        predictor.placed("r", QUERY, identity, at)
        predictor.finished("r", at + seconds + 1.0)
        predictor.charged("r", Usage(2_000, 50, 2_050), at + seconds)


def taught() -> Predictor:
    predictor = Predictor()
    serve(predictor, "quick", 0.5)
    serve(predictor, "slow", 2.0)
    return predictor


def test_a_new_process_begins_with_speeds_and_lengths_of_the_one_before() -> None:
    before, after = taught(), Predictor()
    assert remember(after, learned(before)) == 2
    for identity in ("quick", "slow", "unknown"):
        before.placed("x", QUERY, identity, 1_000.0)
        after.placed("x", QUERY, identity, 1_000.0)
        assert after.speed(identity) == pytest.approx(before.speed(identity))
    assert after.speeds.is_known("m")
    assert after.ratios.ratio("m") == before.ratios.ratio("m")
    assert after.outputs == before.outputs


def test_what_is_remembered_late_counts_for_engines_that_are_used_already_and_not_against_what_was_learned() -> None:
    after = Predictor()
    after.placed("x", QUERY, "slow", 0.0)
    serve(after, "quick", 1.0)
    remember(after, learned(taught()))
    assert after.speed("slow") == pytest.approx(1_000, rel=0.01)
    assert after.speed("quick") == pytest.approx(2_000, rel=0.01)


def test_an_engine_that_is_another_now_is_learned_anew() -> None:
    after = Predictor()
    remember(after, learned(taught()))
    serve(after, "slow", 0.5, times=60)
    assert after.speed("slow") == pytest.approx(4_000, rel=0.01)


def test_it_is_bounded_for_any_fleet() -> None:
    predictor = Predictor()
    for number in range(2_500):
        serve(predictor, f"engine-{number}-".ljust(100, "x"), 1.0, times=1)
    data = learned(predictor)
    assert len(data) <= MAX_BYTES
    assert remember(Predictor(), data) > 100


ANY = st.floats() | st.sampled_from([0.0, 1e-3, 1.0])
NAME = st.sampled_from(["m", "e", "", "x" * 1_000])


@given(
    st.binary(max_size=40)
    | st.builds(
        lambda *parts: msgspec.msgpack.encode((1, *parts)),
        st.lists(st.tuples(NAME, ANY, ANY, ANY), max_size=3),
        st.lists(st.tuples(NAME, ANY, ANY), max_size=3),
        st.lists(st.tuples(NAME, NAME, ANY, ANY, ANY), max_size=3),
    )
)
def test_whatever_is_read_predictions_stay_numbers(data: bytes) -> None:
    predictor = Predictor()
    remember(predictor, data)
    predictor.placed("x", QUERY, "e", 0.0)
    engine = predictor.engine("e", "m")
    assert 0.0 < engine.pace < math.inf
    assert math.isfinite(engine.free_at)
    assert 0.0 < predictor.ratios.ratio("m") < math.inf
