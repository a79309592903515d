"""Workers and Envoy that die, hang up or drain: running streams go on, everybody else gets JSON."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import openai
import pytest

from tests.dataplane.engines import EngineSpec
from tests.dataplane.load import begin_streams, one_answer, under_load
from tests.dataplane.openai_error import assert_openai_error
from tests.dataplane.raw import JSON
from tests.dataplane.stack import Stack
from tests.waiting import eventually, until

ONE = (EngineSpec("e0", ("chat-m",)),)
CHAT: dict[str, Any] = {"model": "chat-m", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
PATH = "/v1/chat/completions"
HEALTHY = "cluster.processors.membership_healthy"

pytestmark = pytest.mark.slow


def works(stack: Stack) -> bool:
    try:
        return stack.post(PATH, CHAT).status == 200
    except OSError:
        return False  # Envoy says where it listens a moment before it does


async def test_err_08_a_killed_worker_leaves_running_streams_alone_and_503_to_others(
    new_stack: Callable[..., Stack],
) -> None:
    stack = new_stack(ONE)
    async with stack.async_client() as client, asyncio.TaskGroup() as tasks:
        running = await begin_streams(client, tasks, count=8, tokens=40, pace="40")
        async with under_load(stack, clients=8) as load:
            await load.more(8)
            await asyncio.to_thread(stack.worker.child.kill)
            await load.more(64)
    streams = [task.result() for task in running]
    assert all(stream.complete for stream in streams), streams
    assert load.failed(stream=True, began=True) == []
    assert load.failed(stream=False, began=True) == []
    load.assert_nothing_short()
    load.assert_failures_are_503()
    assert load.failed(stream=False, began=False), "nobody noticed that the only worker was gone"


def test_err_08_a_restarted_worker_is_used_as_soon_as_it_listens(new_stack: Callable[..., Stack]) -> None:
    stack = new_stack(ONE)

    stack.worker.child.kill()
    assert_openai_error(stack.post(PATH, CHAT), 503, code="gateway_unavailable")
    stack.restart_worker()
    eventually(lambda: works(stack), "requests are served again", seconds=20)  # of the minute of an idle health check


async def test_one_of_two_workers_killed_under_load_is_soon_not_missed(new_stack: Callable[..., Stack]) -> None:
    stack = new_stack(ONE, workers_wanted=2)
    async with stack.async_client() as client, asyncio.TaskGroup() as tasks:
        running = await begin_streams(client, tasks, count=8, tokens=40, pace="40")
        async with under_load(stack, clients=16) as load:
            await load.more(16)
            await asyncio.to_thread(stack.workers[0].child.kill)
            await load.more(64)
            await until(
                lambda: asyncio.to_thread(lambda: stack.envoy_stats(f"^{HEALTHY}$")[HEALTHY] == 1),
                "Envoy has noticed",
                seconds=20,
            )
            noticed = len(load.outcomes)
            await load.more(64)
    assert all(task.result().complete for task in running)
    load.assert_nothing_short()
    load.assert_failures_are_503()
    # Those that were on their way when Envoy noticed may still have met the dead one.
    assert [one for one in load.outcomes[noticed + 16 :] if one.error] == []


def test_without_a_worker_a_forged_destination_reaches_nothing(new_stack: Callable[..., Stack]) -> None:
    stack = new_stack(ONE)
    engine = stack.engine("e0")
    stack.worker.child.kill()
    for name in ("x-gateway-destination-endpoint", "X-GATEWAY-DESTINATION-ENDPOINT"):
        answer = stack.send("POST", PATH, json.dumps(CHAT).encode(), JSON | {name: engine.address})
        assert_openai_error(answer, 503, code="gateway_unavailable")
    assert engine.requests() == []


def test_without_a_worker_every_path_is_a_503_in_shape(new_stack: Callable[..., Stack]) -> None:
    stack = new_stack(ONE)
    stack.worker.child.kill()
    for path in ("/v1/models", "/v1/nope", "/", "/metrics"):
        assert_openai_error(stack.send("GET", path), 503, code="gateway_unavailable")


async def test_sigterm_finishes_running_streams_and_exits_with_0(new_stack: Callable[..., Stack]) -> None:
    stack = new_stack(ONE)
    worker = stack.worker
    async with stack.async_client() as client, asyncio.TaskGroup() as tasks:
        running = await begin_streams(client, tasks, count=4, tokens=50, pace="40")
        worker.child.terminate()
        await asyncio.to_thread(eventually, lambda: worker.admin("/readyz").status == 503, "it is not ready")
        health = worker.admin("/readyz").json()
        assert (health["draining"], health["streams"]) == (True, 4)
        late = await one_answer(client)
        assert late.complete or isinstance(late.error, openai.InternalServerError)
    assert all(task.result().complete for task in running)
    assert await asyncio.to_thread(worker.child.wait) == 0
    assert "Traceback" not in worker.child.output()


async def test_two_workers_are_replaced_one_by_one_without_a_failure(new_stack: Callable[..., Stack]) -> None:
    stack = new_stack(ONE, workers_wanted=2)
    async with under_load(stack, clients=8) as load:
        for index in range(2):
            await load.more(16)
            old = stack.workers[index].child
            old.terminate()
            assert await asyncio.to_thread(old.wait) == 0
            await asyncio.to_thread(stack.restart_worker, index)
            await asyncio.to_thread(
                eventually, lambda: stack.envoy_stats(f"^{HEALTHY}$")[HEALTHY] == 2, "Envoy uses the new worker"
            )
        await load.more(16)
    assert [one for one in load.outcomes if one.error] == []
    load.assert_nothing_short()


async def test_a_killed_envoy_leaves_nothing_counted_and_comes_back(new_stack: Callable[..., Stack]) -> None:
    stack = new_stack(ONE)
    worker, engine = stack.worker, stack.engine("e0")
    async with stack.async_client() as client, asyncio.TaskGroup() as tasks:
        running = await begin_streams(client, tasks, count=4, tokens=500, pace="40")
        assert worker.total("aibrix_extproc_in_flight") == 4
        await asyncio.to_thread(stack.envoy.kill)
    assert all(isinstance(task.result().error, openai.APIConnectionError) for task in running)
    eventually(lambda: worker.total("aibrix_extproc_in_flight") == 0, "the worker counts nothing any more")
    eventually(lambda: engine.stats()["running"] == 0, "the engine has ended the streams")
    assert worker.total("aibrix_extproc_exchanges_total", operation="chat_completion") == 4
    stack.start_envoy()
    eventually(lambda: works(stack), "requests are served again")


def test_a_broken_fleet_edit_keeps_serving_and_says_so(new_stack: Callable[..., Stack]) -> None:
    stack = new_stack(ONE)
    worker, good = stack.worker, stack.fleet_file.read_text()

    def source() -> dict[str, Any]:
        found: dict[str, Any] = worker.admin("/readyz").json()["sources"]["file"]
        return found

    stack.fleet_file.write_text("endpoints:\n  - adress: 127.0.0.1:1\n")
    eventually(lambda: not source()["ok"], "the broken file is noticed")
    assert "line 2" in source()["error"]
    assert worker.total("aibrix_extproc_fleet_source_ok", source="file") == 0
    assert worker.admin("/readyz").status == 200
    assert works(stack)
    stack.fleet_file.unlink()
    eventually(lambda: "line 2" not in source()["error"], "the missing file is noticed")
    assert works(stack)
    stack.fleet_file.write_text(good)
    eventually(lambda: source()["ok"], "the good file is noticed")
    assert worker.total("aibrix_extproc_fleet_source_ok", source="file") == 1
    assert works(stack)


def test_an_emptied_fleet_is_a_503_then_404_never_a_hang(new_stack: Callable[..., Stack]) -> None:
    stack = new_stack(ONE)
    stack.fleet_file.write_text("endpoints: []\n")
    eventually(lambda: not stack.models(), "the fleet is empty")
    assert_openai_error(stack.post(PATH, CHAT), 404, code="model_not_found")


def test_any_key_is_accepted_when_none_is_configured(new_stack: Callable[..., Stack]) -> None:
    stack = new_stack(ONE)
    assert stack.send("GET", "/v1/models").status == 200
    with stack.client(api_key="whatever") as client:
        assert [card.id for card in client.models.list()] == ["chat-m"]


def test_without_a_worker_anthropic_s_paths_answer_in_anthropic_s_shape(new_stack: Callable[..., Stack]) -> None:
    stack = new_stack(ONE)
    stack.worker.child.kill()
    for path in ("/v1/messages", "/v1/messages/count_tokens"):
        answer = stack.send("POST", path, json.dumps(CHAT | {"max_tokens": 5}).encode(), JSON)
        error = json.loads(answer.body)
        assert (answer.status, error["type"], error["error"]["type"]) == (503, "error", "overloaded_error")
        assert set(error["error"]) == {"type", "message"}
        assert {("retry-after", "1"), ("content-type", "application/json")} <= set(answer.headers)
    assert_openai_error(stack.send("POST", "/v1/messagesx", b"{}", JSON), 503, code="gateway_unavailable")
