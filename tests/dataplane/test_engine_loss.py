"""Engines that die, come and go under load: clients that have not begun to read notice nothing."""

import asyncio
from collections.abc import Callable

import pytest

from tests.dataplane.engines import EngineSpec
from tests.dataplane.load import begin_streams, one_answer, under_load
from tests.dataplane.stack import Stack
from tests.waiting import eventually

THREE = tuple(EngineSpec(f"e{number}", ("chat-m",)) for number in range(3))

pytestmark = pytest.mark.slow


def assert_all_accounted(stack: Stack, requests: int) -> None:
    """Each exchange was counted once, and nothing is counted as running."""
    worker = stack.worker
    eventually(lambda: worker.total("aibrix_extproc_in_flight") == 0, "no exchange is with an engine any more")
    name = "aibrix_extproc_exchanges_total"
    eventually(lambda: worker.total(name, operation="chat_completion") >= requests, "all exchanges are counted")
    assert worker.total(name, operation="chat_completion") == requests


async def test_an_engine_killed_under_load_costs_only_streams_that_had_begun(new_stack: Callable[..., Stack]) -> None:
    stack = new_stack(THREE, serve_arguments=("--strategy", "least-request"))  # each of them gets streams
    async with stack.async_client() as client, asyncio.TaskGroup() as tasks, under_load(stack) as load:
        await load.more(32)
        whole = [tasks.create_task(one_answer(client, pace="1500")) for _ in range(24)]  # 9 s each
        await load.more(32)  # by then these are at the engines, and they stay there until one is killed
        begun = await begin_streams(client, tasks, count=9, tokens=40, pace="150")
        await asyncio.to_thread(stack.kill_engine, "e1")
        await load.more(96)
    assert load.failed(stream=False, began=False) == []
    assert load.failed(stream=False, began=True) == []
    assert load.failed(stream=True, began=False) == []
    load.assert_nothing_short()
    assert all(task.result().complete for task in whole), "what had not begun is asked of another engine"
    streams = [task.result() for task in begun]
    cut = [stream for stream in streams if stream.error]
    assert 1 <= len(cut) <= 6, "streams of the killed engine raise, those of the others do not"
    assert all(stream.complete for stream in streams if not stream.error)
    assert_all_accounted(stack, len(load.outcomes) + len(streams) + len(whole))
    assert stack.worker.total("aibrix_extproc_retried_total") > 0


async def test_an_engine_that_comes_back_is_used_again(new_stack: Callable[..., Stack]) -> None:
    stack = new_stack(THREE[:2])
    await asyncio.to_thread(stack.kill_engine, "e0")
    async with under_load(stack, clients=8) as load:
        await load.more(16)
        await asyncio.to_thread(stack.restart_engine, "e0")
        await asyncio.to_thread(
            eventually, lambda: stack.engine("e0").stats()["finished"]["stop"] > 4, "the engine gets work again"
        )
    assert [one for one in load.outcomes if one.error] == []
    load.assert_nothing_short()


async def test_an_engine_that_refuses_connections_costs_nothing(new_stack: Callable[..., Stack]) -> None:
    stack = new_stack(THREE)
    async with under_load(stack, clients=8) as load:
        await load.more(16)
        await asyncio.to_thread(stack.engine("e2").fail, "refuse-connections", seconds=1.0)
        await load.more(64)
    assert [one for one in load.outcomes if one.error] == []
    load.assert_nothing_short()
    assert_all_accounted(stack, len(load.outcomes))


async def test_an_engine_leaves_and_another_joins_by_editing_the_fleet_without_a_failure(
    new_stack: Callable[..., Stack],
) -> None:
    stack = new_stack(THREE[:2])
    leaving = stack.engine("e0")
    async with under_load(stack, clients=16) as load:
        await load.more(32)
        await asyncio.to_thread(stack.start_engine, THREE[2])
        stack.write_fleet("e1", "e2")
        joined = stack.engine("e2")
        await asyncio.to_thread(
            eventually, lambda: joined.stats()["finished"]["stop"] > 4, "the engine that joined gets work"
        )
        await asyncio.to_thread(eventually, lambda: leaving.stats()["running"] == 0, "the other one has none left")
        done = leaving.stats()["finished"]
        await load.more(48)
        assert leaving.stats()["finished"] == done
    assert [one for one in load.outcomes if one.error] == []
    load.assert_nothing_short()
    assert_all_accounted(stack, len(load.outcomes))
