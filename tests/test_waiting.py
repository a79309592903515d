"""The helper that all tests wait with."""

import asyncio
from collections.abc import Callable

import pytest

from tests.waiting import eventually, until


def counting(answers: list[object]) -> Callable[[], object]:
    """A condition that gives these answers, one for each question."""
    left = iter(answers)
    return lambda: next(left)


async def test_first_true_answer_is_returned_and_no_further_question_asked() -> None:
    assert await until(counting([None, 0, "yes"])) == "yes"
    assert eventually(counting([[], False, 7])) == 7


async def test_condition_may_be_a_coroutine_function() -> None:
    answers = counting([False, 5])

    async def condition() -> object:
        await asyncio.sleep(0)
        return answers()

    assert await until(condition) == 5


@pytest.mark.parametrize("what", ["the lamp is on", lambda: "the lamp is on"])
async def test_deadline_is_a_failure_that_names_the_state(what: str | Callable[[], object]) -> None:
    with pytest.raises(AssertionError, match=r"not within 0\.01 s: the lamp is on"):
        await until(lambda: False, what, seconds=0.01)
    with pytest.raises(AssertionError, match=r"not within 0\.01 s: the lamp is on"):
        eventually(lambda: False, what, seconds=0.01)


async def test_deadline_ends_a_condition_that_hangs() -> None:
    with pytest.raises(AssertionError, match="not within"):
        await until(asyncio.Event().wait, seconds=0.01)


async def test_timeout_of_the_condition_itself_is_passed_on() -> None:
    def condition() -> bool:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        await until(condition)
