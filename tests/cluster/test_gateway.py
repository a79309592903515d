"""Our manifests on a real Kubernetes control plane with a real Envoy Gateway and Envoy, asked by the OpenAI SDK."""

import asyncio
import signal
import time
from collections.abc import Callable

import openai
import pytest

from tests.cluster.asking import ask, engine, known_to_envoy, seconds_until, served, until_answered
from tests.cluster.conftest import NAMESPACE, Cluster
from tests.cluster.node import PodLife
from tests.cluster.processors import processors, until_checked, until_two_are_used
from tests.cluster.test_doctor import doctored
from tests.waiting import until

pytestmark = [pytest.mark.kubernetes, pytest.mark.slow, pytest.mark.asyncio(loop_scope="package")]

Record = Callable[[str, object], None]
MESSAGES: list[openai.types.chat.ChatCompletionUserMessageParam] = [{"role": "user", "content": "hi"}]


async def test_sdk_lists_chats_streams_embeds_and_is_told_what_is_wrong(cluster: Cluster) -> None:
    client = cluster.openai
    assert [model.id async for model in client.models.list()] == ["sim-chat", "sim-embed"]
    whole = await client.chat.completions.create(model="sim-chat", messages=MESSAGES)
    assert whole.choices[0].message.content
    stream = await client.chat.completions.create(model="sim-chat", messages=MESSAGES, stream=True)
    parts = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert len(parts) > 2
    assert "".join(parts) == whole.choices[0].message.content
    assert (await client.embeddings.create(model="sim-embed", input="hi")).data[0].embedding
    with pytest.raises(openai.NotFoundError) as missing:
        await client.chat.completions.create(model="nobody", messages=MESSAGES)
    assert missing.value.code == "model_not_found"


async def test_what_was_applied_is_accepted_by_envoy_gateway(cluster: Cluster) -> None:
    group = "/apis/gateway.networking.k8s.io/v1"
    for route in await cluster.admin.items(f"{group}/namespaces/{NAMESPACE}/httproutes"):
        (parent,) = route["status"]["parents"]
        said = {one["type"]: one["status"] for one in parent["conditions"]}
        assert said == {"Accepted": "True", "ResolvedRefs": "True"}, route["metadata"]["name"]
    for kind in ("backendtrafficpolicies", "clienttrafficpolicies", "envoyextensionpolicies"):
        path = f"/apis/gateway.envoyproxy.io/v1alpha1/namespaces/{NAMESPACE}/{kind}"
        for policy in await cluster.admin.items(path):
            (ancestor,) = policy["status"]["ancestors"]
            assert [(one["type"], one["status"]) for one in ancestor["conditions"]] == [("Accepted", "True")]


async def test_pod_is_known_to_envoy_before_it_is_ready_and_picked_as_soon_as_it_is(
    cluster: Cluster, record_property: Record
) -> None:
    async with engine(cluster, "early", "model-early", ready=False) as early:
        await until(lambda: early.ip != "" and early.told_at > 0)

        async def known() -> bool:
            return f"{early.ip}:8000" in await known_to_envoy(cluster)

        record_property("address_to_envoy_seconds", await seconds_until(known))
        assert set((await known_to_envoy(cluster)).values()) == {"/eds_status_draining"}  # never the fallback's choice
        refused = await ask(cluster, "model-early")
        assert (refused.status, refused.code) == (503, "model_not_ready")
        cluster.node.held.discard("early")
        answered_at = await until_answered(cluster, "model-early", 30)
        record_property("ready_to_picked_seconds", answered_at - early.told_at)
        assert answered_at - early.told_at < 1


async def test_pod_that_is_not_ready_any_more_is_not_picked(cluster: Cluster, record_property: Record) -> None:
    async with engine(cluster, "stays", "model-pair") as stays, engine(cluster, "leaves", "model-pair") as leaves:

        async def both() -> bool:
            await ask(cluster, "model-pair")
            return await served(cluster, leaves) > 0 and await served(cluster, stays) > 0

        await until(both)
        cluster.node.held.add("leaves")
        await until(lambda: leaves.ready is False)
        count, last = await served(cluster, leaves), leaves.told_at
        while time.monotonic() - leaves.told_at < 1.5:
            assert (await ask(cluster, "model-pair")).status == 200
            now = await served(cluster, leaves)
            count, last = now, (time.monotonic() if now > count else last)
        record_property("not_ready_to_left_alone_seconds", last - leaves.told_at)
        assert last - leaves.told_at < 0.5  # a tenth on a machine that has nothing else to do
        assert f"{leaves.ip}:8000" in await known_to_envoy(cluster)


async def test_stream_of_a_pod_that_is_deleted_goes_on_to_its_end(cluster: Cluster) -> None:
    async with engine(cluster, "ending", "model-ending", "--itl-ms=40", "--output-tokens=60") as ending:
        stream = await cluster.openai.chat.completions.create(
            model="model-ending", messages=MESSAGES, stream=True, max_tokens=60
        )
        parts = [await anext(stream)]
        ending.term_seconds = 5
        await cluster.admin.ask("DELETE", ending.path)

        async def left_alone() -> bool:
            return (await ask(cluster, "model-ending")).status == 503

        assert await seconds_until(left_alone) < 1
        parts += [chunk async for chunk in stream]
        assert parts[-1].choices[0].finish_reason == "stop"
        await until(lambda: ending.gone, seconds=15)

        async def forgotten() -> bool:
            return f"{ending.ip}:8000" not in await known_to_envoy(cluster)

        await until(forgotten)
        assert (await ask(cluster, "model-ending")).status == 404


async def test_only_pod_of_a_model_that_dies_is_never_replaced_by_one_of_another_model(cluster: Cluster) -> None:
    async with engine(cluster, "only-a", "model-a") as only, engine(cluster, "only-b", "model-b") as other:
        before = await served(cluster, other)
        only.kill()
        died = time.monotonic()
        codes = set()
        while time.monotonic() - died < 2:
            answer = await ask(cluster, "model-a")
            assert answer.status == 503
            assert answer.body["error"]["type"] == "server_error"
            assert "retry-after" in answer.headers
            codes.add(answer.code)
        assert codes
        assert await served(cluster, other) == before
        assert (await ask(cluster, "model-b")).status == 200


async def test_pod_that_envoy_does_not_know_is_a_503_and_no_other_pod(cluster: Cluster) -> None:
    """Envoy Gateway hangs, so a new pod is in the fleet but not in Envoy."""
    async with engine(cluster, "known", "model-known") as known:
        gateway = cluster.plane.gateway
        gateway.send_signal(signal.SIGSTOP)
        try:
            async with engine(cluster, "unknown", "model-unknown", ready=False) as unknown:
                cluster.node.held.discard("unknown")
                await until(lambda: unknown.ready is True, seconds=30)

                async def picked() -> bool:
                    return (await ask(cluster, "model-unknown")).code != "model_not_ready"

                await until(picked)
                before = await served(cluster, known)
                for _ in range(20):
                    answer = await ask(cluster, "model-unknown")
                    assert answer.status == 503
                    assert answer.body["error"]["type"] == "server_error"
                assert (await served(cluster, unknown), await served(cluster, known)) == (0, before)
                gateway.send_signal(signal.SIGCONT)
                await until_answered(cluster, "model-unknown", 30)
        finally:
            gateway.send_signal(signal.SIGCONT)


async def test_pod_with_any_label_serves_the_names_the_alias_and_the_adapters_that_its_engine_lists(
    cluster: Cluster,
) -> None:
    names = {"Qwen/Qwen3-8B", "qwen", "sql-lora", "law-lora"}
    options = ("--model=qwen", "--lora=sql-lora=/x", "--lora=law-lora=/y")
    async with engine(cluster, "qwen", "Qwen/Qwen3-8B", *options, label="anything"):

        async def label_is_no_name() -> bool:
            return (await ask(cluster, "anything")).status == 404

        await until(label_is_no_name)
        assert [(await ask(cluster, name)).status for name in sorted(names)] == [200] * 4
        listed = {one.id async for one in await cluster.openai.models.list()}
        assert names <= listed
        assert "anything" not in listed
        found = await asyncio.to_thread(doctored, cluster.plane.kubeconfig)
        remarks = [one for one in found[1]["findings"] if one["subject"] == f"engine {NAMESPACE}/qwen"]
        assert "'anything', which the engine does not list" in remarks[0]["notice"]


async def test_header_that_names_an_engine_is_the_processors_alone(cluster: Cluster) -> None:
    async with engine(cluster, "aim", "model-aim") as aim:
        before = await served(cluster, aim)
        forged = {"x-gateway-destination-endpoint": f"{aim.ip}:8000"}
        assert (await ask(cluster, "sim-chat", **forged)).status == 200
        assert (await ask(cluster, "nobody", **forged)).status == 404
        assert await served(cluster, aim) == before


async def test_processors_that_are_killed_cost_new_requests_only_and_come_back(
    cluster: Cluster, record_property: Record
) -> None:
    async with engine(cluster, "long", "model-long", "--itl-ms=40", "--output-tokens=80") as long:
        stream = await cluster.openai.chat.completions.create(
            model="model-long", messages=MESSAGES, stream=True, max_tokens=80
        )
        parts = [await anext(stream)]
        both = processors(cluster)
        assert len(both) == 2
        for life in both:
            life.kill()
        for _ in range(20):
            answer = await ask(cluster, "model-long")
            assert (answer.status, answer.code) == (503, "gateway_unavailable")
            assert answer.headers["retry-after"] == "1"
            assert answer.seconds < 0.5
        record_property("refused_in_seconds", answer.seconds)
        forged = await ask(cluster, "model-long", **{"x-gateway-destination-endpoint": f"{long.ip}:8000"})
        assert forged.code == "gateway_unavailable"
        parts += [chunk async for chunk in stream]
        assert parts[-1].choices[0].finish_reason == "stop"
        await until_answered(cluster, "model-long", 60)


async def test_processors_are_replaced_by_new_ones_without_a_failed_request(cluster: Cluster) -> None:
    deployment = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/aibrix-extproc"
    mark = {"spec": {"template": {"metadata": {"annotations": {"test/rolled": "1"}}}}}
    await until_two_are_used(cluster)  # the test before has killed both
    await until_checked(cluster)
    await cluster.admin.ask("PATCH", deployment, mark)

    async def rolled() -> bool:
        assert (await ask(cluster, "sim-chat")).status == 200
        status = (await cluster.admin.ask("GET", deployment))["status"]
        return (status.get("updatedReplicas"), status.get("replicas"), status.get("availableReplicas")) == (2, 2, 2)

    await asyncio.sleep(1)
    await until(rolled, seconds=60)


async def test_leader_that_is_killed_is_followed_and_new_pods_are_published(
    cluster: Cluster, record_property: Record
) -> None:
    lease = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/aibrix-extproc-publisher"

    async def holder() -> str:
        return str((await cluster.admin.ask("GET", lease))["spec"]["holderIdentity"])

    leaders: list[tuple[str, PodLife]] = []

    async def led() -> bool:
        """Not while it is held by one that is gone, or that ends and gives it back any moment."""
        held = await holder()
        name = held.partition("_")[0]
        leaders[:] = [(held, life) for life in cluster.node.lives.values() if life.name == name and life.ready is True]
        return bool(leaders)

    await until_two_are_used(cluster)
    await until(led)
    ((before, leads),) = leaders
    leads.kill()
    killed = time.monotonic()
    async with engine(cluster, "after", "model-after"):
        record_property("killed_to_picked_seconds", time.monotonic() - killed)
        assert await holder() not in ("", before)
        assert time.monotonic() - killed < 20


async def test_nothing_is_written_while_nothing_changes(cluster: Cluster) -> None:
    path = f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices"
    ours = f"{path}?labelSelector=endpointslice.kubernetes.io/managed-by=aibrix-extproc"

    async def versions() -> list[str]:
        return [one["metadata"]["resourceVersion"] for one in await cluster.admin.items(ours)]

    async def settled() -> bool:
        return [len(one["endpoints"]) for one in await cluster.admin.items(ours)] == [3]  # the simulated engines

    await until(settled)
    before = await versions()
    await asyncio.sleep(3)
    assert await versions() == before
