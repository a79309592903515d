"""Estimates before a request, and what counts after it."""

from msgspec.structs import replace

from aibrix_extproc.core.access.limits.estimates import NOTHING, Demand, Estimator, Outcome
from aibrix_extproc.core.access.limits.prices import PriceList
from aibrix_extproc.core.access.limits.records import PriceRecord
from aibrix_extproc.core.openai.wire.estimates import InputRatios

FREE = PriceList([])
PRICED = PriceList([PriceRecord("m", "m", {"input_tokens": 2, "cached_input_tokens": 1, "output_tokens": 10})])
DEMAND = Demand("m", "a", 400, is_generated=True, max_output=50)
DONE = Outcome("m", "a", 200, 400, ended_early=False, input_tokens=80, output_tokens=20)


def test_a_request_is_estimated_by_its_bytes_and_what_it_allows() -> None:
    found = Estimator(InputRatios()).demanded(DEMAND, PRICED)
    assert found == (1, 101, 50, 151, 400, 0, 101 * 2 + 50 * 10, 1, 0)


def test_a_model_teaches_how_many_bytes_its_tokens_have() -> None:
    ratios = InputRatios()
    for _ in range(400):
        ratios.learn("m", 800, 100)
        ratios.learn("m", 1_000_000, 100)  # an image
        ratios.learn("m", 10, 0)
    assert 50 <= Estimator(ratios).demanded(DEMAND, FREE)[1] <= 52


def test_output_without_a_bound_is_what_most_answers_of_the_caller_stay_below() -> None:
    estimator = Estimator(InputRatios())
    for number in range(4000):
        estimator.learn(replace(DONE, output_tokens=100 * (number % 4 + 1)))
    demand = replace(DEMAND, max_output=None)
    assert 250 <= estimator.demanded(demand, FREE)[2] <= 420
    assert estimator.demanded(replace(demand, caller="other"), FREE)[2] == 257


def test_media_and_audio_are_not_taken_for_text() -> None:
    large = replace(DEMAND, body_bytes=4_000_000, has_media=True)
    assert Estimator(InputRatios()).demanded(large, FREE)[1] == 1001
    audio = Demand("w", "a", 160_000, has_tokens=False, has_audio=True)
    assert Estimator(InputRatios()).demanded(audio, FREE) == (1, 0, 0, 0, 160_000, 10_000, 0, 1, 0)


def test_usage_counts_and_cached_tokens_by_their_weight() -> None:
    cached = replace(DONE, cached_tokens=60)
    assert Estimator(InputRatios()).actual(cached, PRICED) == (1, 80, 20, 100, 400, 0, 20 * 2 + 60 + 200, 1, 0)
    assert Estimator(InputRatios(), cached_weight=0.25).actual(cached, FREE) == (1, 35, 20, 55, 400, 0, 0, 1, 0)


def test_failures_cost_nothing_and_refusals_of_engines_a_request() -> None:
    estimator = Estimator(InputRatios())
    assert estimator.actual(replace(DONE, status=500, input_tokens=None), FREE) == NOTHING
    assert estimator.actual(replace(DONE, status=400, input_tokens=None), FREE) == (1, 0, 0, 0, 400, 0, 0, 1, 0)


def test_a_stream_that_was_left_costs_its_input_and_what_was_sent() -> None:
    left = replace(DONE, ended_early=True, input_tokens=None, events=4)
    assert Estimator(InputRatios()).actual(left, FREE) == (1, 101, 3, 104, 400, 0, 0, 1, 0)


def test_a_whole_answer_without_usage_costs_what_was_estimated() -> None:
    assert Estimator(InputRatios()).actual(replace(DONE, input_tokens=None), FREE) is None


def test_a_request_whose_time_ran_out_costs_its_input() -> None:
    late = replace(DONE, status=504, input_tokens=None)
    assert Estimator(InputRatios()).actual(late, FREE) == (1, 101, 0, 101, 400, 0, 0, 1, 0)
