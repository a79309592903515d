"""Long work shares the loop: one step a turn however many jobs wait, each with its turn, none after its end."""

import asyncio
import gc
import itertools
from collections.abc import Callable

import pytest

from aibrix_extproc.app.time_slices import TimeSlices


def job(name: str, steps: int, log: list[str]) -> Callable[[], str | None]:
    left = iter(range(steps - 1, -1, -1))

    def step() -> str | None:
        log.append(name)
        return None if next(left) else name

    return step


async def test_jobs_take_turns_and_all_come_to_their_end() -> None:
    slices, log = TimeSlices(), list[str]()
    found = await asyncio.gather(*(slices.run(job(name, 3, log)) for name in "abc"))
    assert found == ["a", "b", "c"]
    assert log == ["a", "b", "c"] * 3


async def test_turn_of_the_loop_has_one_step_at_most() -> None:
    slices, log = TimeSlices(), list[str]()
    turns: list[int] = []

    async def watch() -> None:
        while len(log) < 40:
            turns.append(len(log))
            await asyncio.sleep(0)

    await asyncio.gather(watch(), *(slices.run(job(str(n), 4, log)) for n in range(10)))
    assert all(after - before <= 1 for before, after in itertools.pairwise(turns))


async def test_first_step_waits_for_the_next_turn() -> None:
    slices, log = TimeSlices(), list[str]()
    task = asyncio.ensure_future(slices.run(job("a", 1, log)))
    assert log == []
    assert await task == "a"


async def test_job_that_is_cancelled_lets_others_go_on() -> None:
    slices, log = TimeSlices(), list[str]()
    first = asyncio.ensure_future(slices.run(job("a", 1000, log)))
    second = asyncio.ensure_future(slices.run(job("b", 2, log)))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == "b"
    assert log.count("a") < 5


async def test_step_that_fails_is_told_and_lets_others_go_on() -> None:
    def broken() -> str | None:
        raise LookupError

    slices, log = TimeSlices(), list[str]()
    with pytest.raises(LookupError):
        await slices.run(broken)
    assert await slices.run(job("b", 2, log)) == "b"


def test_job_that_nobody_waits_for_is_never_begun() -> None:
    log = list[str]()
    TimeSlices().run(job("a", 1, log))
    gc.collect()  # a coroutine would warn here
    assert log == []
