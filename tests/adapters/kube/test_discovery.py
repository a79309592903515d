"""Discovery as an operator sees it, on the double and on a real API server alike."""

from pathlib import Path

import pytest

from aibrix_extproc.adapters.kube.access import find_access
from aibrix_extproc.core.fleet.kubernetes.slices import MANAGER, MANAGER_LABEL, SERVICE_LABEL
from aibrix_extproc.core.fleet.model import Health
from aibrix_extproc.core.fleet.reduce import Changed, Gone, Listed
from tests.adapters.kube.rig import Cluster, discovering
from tests.kubeobjects import MODEL_LABEL, a_pod, a_pool, a_slice, an_adapter
from tests.waiting import until


async def test_pods_of_the_namespace_are_listed_page_by_page_as_one_fleet(cluster: Cluster, tmp_path: Path) -> None:
    for number in range(8):  # pages have three
        await cluster.put(a_pod(f"vllm-{number}", f"10.1.0.{number + 1}", namespace=cluster.namespace))
    await cluster.put(a_pod("other", "10.1.0.99", labels={"app": "other"}, namespace=cluster.namespace))
    async with discovering(cluster, tmp_path) as found:
        await found.until_usable(*(f"10.1.0.{number + 1}:8000" for number in range(8)))
        assert [type(change) for change in found.changes] == [Listed]
        assert found.store.known
        assert found.source.status.ok


async def test_pod_that_comes_changes_and_goes_is_followed(cluster: Cluster, tmp_path: Path) -> None:
    pod = a_pod("vllm-0", None, ready=None, namespace=cluster.namespace, phase="Pending")
    async with discovering(cluster, tmp_path) as found:
        await until(lambda: found.store.known)
        assert found.endpoints == ()
        await cluster.put(pod)
        await until(lambda: found.healths == [Health.NOT_READY])
        assert set(found.models()) == {"chat-m"}
        ready = a_pod("vllm-0", "10.1.0.1", namespace=cluster.namespace)
        await cluster.put(ready)
        await found.until_usable("10.1.0.1:8000")
        await cluster.put(a_pod("vllm-0", "10.1.0.1", ready=False, namespace=cluster.namespace))
        await found.until_usable()
        await cluster.put(ready)
        await found.until_usable("10.1.0.1:8000")
        await cluster.terminate(ready)
        await until(lambda: found.healths == [Health.DRAINING])
        await cluster.delete(ready)
        await until(lambda: found.endpoints == ())
        assert {type(change) for change in found.changes[1:]} == {Changed, Gone}


async def test_pod_that_loses_the_selected_label_goes(cluster: Cluster, tmp_path: Path) -> None:
    await cluster.put(a_pod("vllm-0", "10.1.0.1", namespace=cluster.namespace))
    async with discovering(cluster, tmp_path) as found:
        await found.until_usable("10.1.0.1:8000")
        await cluster.put(a_pod("vllm-0", "10.1.0.1", labels={"app": "x"}, namespace=cluster.namespace))
        await until(lambda: found.endpoints == ())


async def test_replaced_pod_is_another_endpoint(cluster: Cluster, tmp_path: Path) -> None:
    pod = a_pod("vllm-0", "10.1.0.1", namespace=cluster.namespace)
    await cluster.put(pod)
    async with discovering(cluster, tmp_path) as found:
        await found.until_usable("10.1.0.1:8000")
        before = found.endpoints[0].identity
        await cluster.delete(pod)
        await cluster.put(pod | {"metadata": pod["metadata"] | {"uid": "another"}})
        await until(lambda: [one.identity != before for one in found.endpoints if one.health is Health.READY] == [True])


async def test_broken_pod_is_visible_and_costs_no_other(cluster: Cluster, tmp_path: Path) -> None:
    labels = {MODEL_LABEL: "m", "model.aibrix.ai/port": "eight"}
    await cluster.put(a_pod("broken", "10.1.0.1", labels=labels, namespace=cluster.namespace))
    await cluster.put(a_pod("whole", "10.1.0.2", namespace=cluster.namespace))
    async with discovering(cluster, tmp_path) as found:
        await found.until_usable("10.1.0.2:8000")
        assert list(found.source.warnings()) == [f"Pod {cluster.namespace}/broken"]
        labels["model.aibrix.ai/port"] = "9000"
        await cluster.put(a_pod("broken", "10.1.0.1", labels=labels, namespace=cluster.namespace))
        await found.until_usable("10.1.0.1:9000", "10.1.0.2:8000")
        assert found.source.warnings() == {}


async def test_adapter_gives_its_pods_a_model_more(cluster: Cluster, tmp_path: Path) -> None:
    await cluster.put(a_pod("vllm-0", "10.1.0.1", namespace=cluster.namespace))
    await cluster.put(an_adapter("lora-a", "vllm-0", "gone", namespace=cluster.namespace))
    async with discovering(cluster, tmp_path) as found:
        await until(lambda: set(found.models()) == {"chat-m", "lora-a"})
        assert "gone" in found.source.warnings()[f"ModelAdapter {cluster.namespace}/lora-a"]
        await cluster.delete(an_adapter("lora-a", namespace=cluster.namespace))
        await until(lambda: set(found.models()) == {"chat-m"})


@pytest.mark.slow
async def test_missing_kind_is_tolerated_and_picked_up_when_it_appears(cluster: Cluster, tmp_path: Path) -> None:
    await cluster.install("modeladapters", there=False)
    await cluster.put(a_pod("vllm-0", "10.1.0.1", namespace=cluster.namespace))
    async with discovering(cluster, tmp_path) as found:
        await found.until_usable("10.1.0.1:8000")
        assert found.source.status.ok
        await cluster.install("modeladapters")
        await cluster.put(an_adapter("lora-a", "vllm-0", namespace=cluster.namespace))
        await until(lambda: set(found.models()) == {"chat-m", "lora-a"})


async def test_pool_selects_pods_and_ports_and_may_change_both(cluster: Cluster, tmp_path: Path) -> None:
    blue, green = {"app": "blue"}, {"app": "green"}
    await cluster.put(a_pod("blue", "10.1.0.1", labels=blue, namespace=cluster.namespace))
    await cluster.put(a_pod("green", "10.1.0.2", labels=green, namespace=cluster.namespace))
    await cluster.put(a_pool("pool", 8000, 8001, selector=blue, namespace=cluster.namespace))
    async with discovering(cluster, tmp_path, inference_pool="pool") as found:
        await found.until_usable("10.1.0.1:8000", "10.1.0.1:8001")
        await cluster.put(a_pool("pool", 8001, 9000, selector=blue, namespace=cluster.namespace))
        await found.until_usable("10.1.0.1:8001", "10.1.0.1:9000")
        await cluster.put(a_pool("pool", 8001, selector=green, namespace=cluster.namespace))
        await found.until_usable("10.1.0.2:8001")
        await cluster.put(a_pod("green-2", "10.1.0.3", labels=green, namespace=cluster.namespace))
        await found.until_usable("10.1.0.2:8001", "10.1.0.3:8001")


async def test_pool_deleted_while_in_use_keeps_its_endpoints_unpickable_until_it_is_back(
    cluster: Cluster, tmp_path: Path
) -> None:
    pool = a_pool("pool", 8000, selector={"app": "vllm"}, namespace=cluster.namespace)
    await cluster.put(a_pod("vllm-0", "10.1.0.1", labels={"app": "vllm"}, namespace=cluster.namespace))
    await cluster.put(pool)
    async with discovering(cluster, tmp_path, inference_pool="pool") as found:
        await found.until_usable("10.1.0.1:8000")
        await cluster.delete(pool)
        await until(lambda: found.healths == [Health.NOT_READY])
        await until(lambda: not found.source.status.ok)
        assert "InferencePool pool" in found.source.status.error
        await cluster.put(pool)
        await found.until_usable("10.1.0.1:8000")
        await until(lambda: found.source.status.ok)


async def test_pool_that_does_not_exist_yet_is_waited_for(cluster: Cluster, tmp_path: Path) -> None:
    await cluster.put(a_pod("vllm-0", "10.1.0.1", labels={"app": "vllm"}, namespace=cluster.namespace))
    async with discovering(cluster, tmp_path, inference_pool="pool") as found:
        await until(lambda: "pool" in found.source.status.error)
        assert not found.store.known
        await cluster.put(a_pool("pool", 8000, selector={"app": "vllm"}, namespace=cluster.namespace))
        await found.until_usable("10.1.0.1:8000")


async def test_slices_give_engines_outside_of_pods(cluster: Cluster, tmp_path: Path) -> None:
    one = a_slice("metal", "192.168.1.5", "192.168.1.6")
    one["metadata"]["namespace"] = cluster.namespace
    await cluster.put(one)
    async with discovering(cluster, tmp_path, slice_selector=MODEL_LABEL) as found:
        await found.until_usable("192.168.1.5:9000", "192.168.1.6:9000")


async def test_slices_that_we_publish_ourselves_are_no_source_of_engines(cluster: Cluster, tmp_path: Path) -> None:
    """With a selector that takes them in, an engine that is gone would keep itself alive by its publication."""
    mark = {SERVICE_LABEL: "engines"}
    ours = a_slice("engines-ipv4-9000-0", "192.168.1.5", labels=mark | {MANAGER_LABEL: MANAGER})
    for one in (ours, a_slice("metal", "192.168.1.6", labels=mark)):
        one["metadata"]["namespace"] = cluster.namespace
        await cluster.put(one)
    async with discovering(cluster, tmp_path, slice_selector=SERVICE_LABEL) as found:
        await found.until_usable("192.168.1.6:9000")
        await cluster.put(ours | {"endpoints": [{"addresses": ["192.168.1.7"]}]})
        more = a_slice("metal-2", "192.168.1.8", labels=mark)
        more["metadata"]["namespace"] = cluster.namespace
        await cluster.put(more)
        await found.until_usable("192.168.1.6:9000", "192.168.1.8:9000")
        assert len(found.endpoints) == 2


async def test_all_namespaces_are_watched_by_a_star(cluster: Cluster, tmp_path: Path) -> None:
    mark = {MODEL_LABEL: "m", "here": cluster.namespace}
    await cluster.put(a_pod("vllm-0", "10.1.0.1", labels=mark, namespace=cluster.namespace))
    selector = f"here={cluster.namespace}"
    async with discovering(cluster, tmp_path, namespaces=("*",), pod_selector=selector) as found:
        await found.until_usable("10.1.0.1:8000")
        await cluster.delete(a_pod("vllm-0", namespace=cluster.namespace))
        await until(lambda: found.endpoints == ())


async def test_namespace_that_is_not_named_is_the_contexts(cluster: Cluster, tmp_path: Path) -> None:
    assert find_access(cluster.kubeconfig(tmp_path), None).namespace == cluster.namespace
    await cluster.put(a_pod("vllm-0", "10.1.0.1", namespace=cluster.namespace))
    async with discovering(cluster, tmp_path, namespaces=()) as found:
        await found.until_usable("10.1.0.1:8000")


async def test_missing_right_is_named_with_the_rule_to_add(cluster: Cluster, tmp_path: Path) -> None:
    async with discovering(cluster, tmp_path, token="nobody") as found:
        await until(lambda: "not allowed" in found.source.status.error)
        error = found.source.status.error
        assert f"pods in {cluster.namespace}" in error
        assert f"a Role in the namespace {cluster.namespace}" in error
        assert 'apiGroups: [""], resources: ["pods"], verbs: ["get", "list", "watch"]' in error
        assert not found.store.known


@pytest.mark.slow
async def test_api_server_that_goes_away_leaves_the_fleet_and_is_resumed_when_it_is_back(
    cluster: Cluster, tmp_path: Path
) -> None:
    await cluster.put(a_pod("vllm-0", "10.1.0.1", namespace=cluster.namespace))
    async with discovering(cluster, tmp_path) as found:
        await found.until_usable("10.1.0.1:8000")
        await cluster.go_away()
        await until(lambda: not found.source.status.ok)
        assert found.usable() == ["10.1.0.1:8000"]
        age = found.source.age_seconds()
        await until(lambda: found.source.age_seconds() > age)
        await cluster.come_back()
        # The other kinds may be back before pods are, whose lost connection alone is no news.
        await until(lambda: found.source.status.ok and found.source.age_seconds() < age + 5, seconds=30)
        await cluster.put(a_pod("vllm-1", "10.1.0.2", namespace=cluster.namespace))
        await found.until_usable("10.1.0.1:8000", "10.1.0.2:8000")
