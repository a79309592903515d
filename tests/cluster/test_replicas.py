"""Processors that die, are replaced or are all gone while clients ask: through a real Envoy Gateway and Envoy."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from functools import partial

import openai
import pytest
import pytest_asyncio

from tests.cluster.asking import ask, engine, seconds_until
from tests.cluster.conftest import GATEWAY, NAMESPACE, Cluster
from tests.cluster.node import PodLife
from tests.cluster.processors import (
    in_flight,
    no_processors,
    processors,
    stat,
    until_checked,
    until_two_are_used,
)
from tests.dataplane.load import Load, begin_streams, one_answer, under_load
from tests.dataplane.openai_error import assert_openai_error
from tests.waiting import until

pytestmark = [pytest.mark.kubernetes, pytest.mark.slow, pytest.mark.asyncio(loop_scope="package")]

MODEL = "chat-m"  # which the load asks for
DEPLOYMENT = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/aibrix-extproc"
Record = Callable[[str, object], None]


@pytest_asyncio.fixture(autouse=True, loop_scope="package", scope="module")
async def engines(cluster: Cluster) -> AsyncIterator[None]:
    async with engine(cluster, "loaded-0", MODEL), engine(cluster, "loaded-1", MODEL):
        yield


def is_not_ready(life: PodLife) -> bool:
    return life.ready is False


def assert_only_503_before_an_answer(load: Load) -> None:
    """Nothing that had begun was cut, and all refusals are OpenAI's JSON."""
    assert load.failed(stream=True, began=True) == []
    assert load.failed(stream=False, began=True) == []
    load.assert_nothing_short()
    load.assert_failures_are_503()


async def test_one_of_two_processors_that_is_killed_under_load_is_soon_not_missed(
    cluster: Cluster, record_property: Record
) -> None:
    await until_two_are_used(cluster)
    await until_checked(cluster)
    last_refused: list[float] = []

    async def one_is_used() -> bool:
        return await stat(cluster, "membership_healthy") == 1

    async with cluster.async_client() as client, asyncio.TaskGroup() as tasks:
        running = await begin_streams(client, tasks, count=8, tokens=400, pace="40")
        async with under_load(cluster, clients=16) as load:
            for victim in processors(cluster):
                await load.more(64)
                assert await in_flight(cluster, victim) > 0
                began = len(load.outcomes)
                victim.kill()
                killed_at = time.monotonic()
                noticed = await seconds_until(one_is_used, 5)
                await until(partial(is_not_ready, victim))
                await until_two_are_used(cluster)  # it is back
                await until_checked(cluster)
                refused = [one.ended_at - killed_at for one in load.outcomes[began:] if one.error]
                record_property("killed_to_noticed_seconds", noticed)
                record_property("refused_after_the_kill_seconds", [round(seconds, 3) for seconds in sorted(refused)])
                last_refused.append(max(refused, default=0.0))
    assert [task.result() for task in running if not task.result().complete] == []
    assert_only_503_before_an_answer(load)
    record_property("requests", len(load.outcomes))
    assert max(last_refused) < 2  # the health check's interval is 0.25 s


async def test_processors_are_replaced_under_load_without_a_failed_request(
    cluster: Cluster, record_property: Record
) -> None:
    await until_two_are_used(cluster)
    before = {life.name for life in processors(cluster)}

    async def replaced() -> bool:
        status = (await cluster.admin.ask("GET", DEPLOYMENT))["status"]
        counts = [status.get(name) for name in ("updatedReplicas", "replicas", "availableReplicas")]
        return counts == [2, 2, 2] and before.isdisjoint(life.name for life in processors(cluster))

    async with cluster.async_client() as client, asyncio.TaskGroup() as tasks:
        running = await begin_streams(client, tasks, count=8, tokens=100, pace="40")
        async with under_load(cluster, clients=8) as load:
            mark = {"spec": {"template": {"metadata": {"annotations": {"test/rolled-under-load": "1"}}}}}
            await cluster.admin.ask("PATCH", DEPLOYMENT, mark)
            record_property("rollout_seconds", await seconds_until(replaced, 120))
            await load.more(32)
    assert [task.result() for task in running if not task.result().complete] == []
    record_property("requests", len(load.outcomes))
    assert [one for one in load.outcomes if one.error] == []
    load.assert_nothing_short()


async def test_without_any_processor_clients_are_refused_at_once_and_streams_go_on(
    cluster: Cluster, record_property: Record
) -> None:
    await until_two_are_used(cluster)
    async with cluster.async_client() as client, asyncio.TaskGroup() as tasks:
        running = await begin_streams(client, tasks, count=8, tokens=100, pace="60")
        async with no_processors(cluster):
            seconds = await refused_for(cluster, 2)
            body = {"model": MODEL, "messages": [], "max_tokens": 2}
            async with cluster.session.post(f"{GATEWAY}/v1/messages", json=body) as refusal:
                assert (refusal.status, (await refusal.json())["error"]["type"]) == (503, "overloaded_error")
            refused = await one_answer(client)
            assert isinstance(refused.error, openai.APIStatusError)
            assert_openai_error(refused.error, 503, code="gateway_unavailable")
            ended = await asyncio.gather(*running)
    assert [one for one in ended if not one.complete] == []
    record_property("refusals", len(seconds))
    record_property("refused_in_seconds_median", seconds[len(seconds) // 2])
    record_property("refused_in_seconds_most", seconds[-1])
    assert seconds[len(seconds) // 2] < 0.25  # a few milliseconds on a machine that has nothing else to do


async def refused_for(cluster: Cluster, duration: float) -> list[float]:
    """How long each refusal took, sorted; all of them were the catch-all's."""
    began, seconds = time.monotonic(), []
    while time.monotonic() - began < duration:
        answer = await ask(cluster, MODEL)
        assert (answer.status, answer.code) == (503, "gateway_unavailable")
        assert answer.headers["retry-after"] == "1"
        seconds.append(answer.seconds)
    return sorted(seconds)
