"""Models of engines: one prompt after the other, and continuous batching held against a model that takes each step."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aibrix_extproc.replay.engine_model import NEVER, BatchingEngine, EngineModel, EngineShape, PrefillQueue, Visit
from aibrix_extproc.replay.trace import Request

BLOCK = 16


def a_request(at: float, prompt: int, output: int = 1, blocks: tuple[int, ...] = ()) -> Request:
    return Request(at, prompt, output, blocks)


def run(engine: EngineModel, requests: list[Request]) -> list[Visit]:
    """All of them to their ends; arrivals between the engine's events."""
    visits = []
    for number, request in enumerate(requests):
        while engine.due < request.at:
            engine.advance()
        visit = Visit(number, request, request.at)
        engine.arrive(visit)
        visits.append(visit)
    while engine.due != NEVER:
        engine.advance()
    return visits


def test_prompts_are_computed_in_turn_and_cached_ones_take_no_time() -> None:
    engine = PrefillQueue(EngineShape(prefill_tokens_per_second=100, cache_tokens=1600), BLOCK)
    blocks = tuple(range(10))
    visits = run(engine, [a_request(0, 160, blocks=blocks), a_request(0.1, 160, blocks=blocks), a_request(9, 50)])
    assert [one.first_token for one in visits] == pytest.approx([1.6, 1.61, 9.5])
    assert [one.cached_tokens for one in visits] == [0, 159, 0]  # one token is always computed


def test_prompts_that_fit_into_one_step_get_their_first_tokens_together() -> None:
    shape = EngineShape(prefill_tokens_per_second=1000, step_tokens=1000, step_seconds=0, sequence_seconds=0)
    engine = BatchingEngine(shape, BLOCK)
    visits = run(engine, [a_request(0, 10), a_request(0.001, 300), a_request(0.002, 400)])
    assert [one.first_token for one in visits] == pytest.approx([0.01, 0.71, 0.71])


def test_decoding_slows_a_prompt_and_a_prompt_slows_decoding() -> None:
    shape = EngineShape(prefill_tokens_per_second=1000, step_tokens=101, step_seconds=0.1, sequence_seconds=0.01)
    first, second = run(BatchingEngine(shape, BLOCK), [a_request(0, 1, output=100), a_request(0.05, 200)])
    assert second.first_token == pytest.approx(0.101 + 2 * (0.1 + 0.01 + 0.1))
    assert first.finished == pytest.approx(second.first_token + 97 * 0.11)


def test_a_request_that_does_not_fit_beside_others_waits_for_their_end() -> None:
    shape = EngineShape(cache_tokens=320)
    first, second = run(BatchingEngine(shape, BLOCK), [a_request(0, 200, output=50), a_request(0, 200, output=50)])
    assert second.first_token > first.finished


def test_requests_that_share_their_blocks_fit_together() -> None:
    shape = EngineShape(cache_tokens=320)
    blocks = tuple(range(12))
    first, second = run(BatchingEngine(shape, BLOCK), [a_request(0, 200, 50, blocks), a_request(0, 200, 50, blocks)])
    assert second.first_token < first.finished


REQUESTS = st.lists(
    st.builds(
        lambda gap, prompt, output, prefix: (gap, prompt, output, prefix),
        st.floats(0, 0.5), st.integers(1, 600), st.integers(0, 30), st.integers(0, 3),
    ),
    min_size=1, max_size=12,
)  # fmt: skip


class EachStep(BatchingEngine):
    """The same engine, which never passes several steps at once."""

    def _unchanged_steps(self) -> int:
        return 1


@settings(max_examples=60, deadline=None)
@given(REQUESTS)
def test_steps_that_are_passed_at_once_give_the_times_of_single_steps(rows: list[tuple[float, int, int, int]]) -> None:
    at, requests = 0.0, []
    for gap, prompt, output, prefix in rows:
        at += gap
        blocks = tuple(range(prefix * 100, prefix * 100 + prompt // BLOCK))
        requests.append(a_request(at, prompt, output, blocks))
    shape = EngineShape(prefill_tokens_per_second=2000, step_tokens=128, cache_tokens=2048, max_sequences=4)
    quick, slow = (run(made(shape, BLOCK), requests) for made in (BatchingEngine, EachStep))
    for one, other in zip(quick, slow, strict=True):
        assert one.first_token == pytest.approx(other.first_token)
        assert one.finished == pytest.approx(other.finished)
        assert one.cached_tokens == other.cached_tokens


def test_a_slower_engine_is_slower_in_all_it_does() -> None:
    shape, requests = EngineShape(), [a_request(0, 20_000, output=50)]
    even, slow = (run(BatchingEngine(one, BLOCK), requests)[0] for one in (shape, shape.slower(5)))
    assert slow.first_token == pytest.approx(5 * even.first_token)
    assert slow.finished == pytest.approx(5 * even.finished)
