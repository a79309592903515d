"""Objects that come, change and go: what is told of them, and who has an address that several want."""

import json
from typing import Any

import msgspec

from aibrix_extproc.core.fleet.kubernetes.kubefleet import MANY, WITHDRAWN, KubeFleet
from aibrix_extproc.core.fleet.kubernetes.objects import EndpointSlice, InferencePool, ModelAdapter, Pod
from aibrix_extproc.core.fleet.model import Endpoint, Health
from aibrix_extproc.core.fleet.reduce import Changed, Gone, Listed, SourceChange
from tests.kubeobjects import a_pod, a_pool, a_slice, an_adapter


def pod(name: str = "vllm-0", ip: str | None = "10.0.0.1", **options: Any) -> Pod:
    return msgspec.json.decode(json.dumps(a_pod(name, ip, **options)), type=Pod)


def pool(*ports: int, **options: Any) -> InferencePool:
    return msgspec.json.decode(json.dumps(a_pool("pool", *ports, **options)), type=InferencePool)


def adapter(name: str, *pods: str, **options: Any) -> ModelAdapter:
    return msgspec.json.decode(json.dumps(an_adapter(name, *pods, **options)), type=ModelAdapter)


def a_fleet(*pods: Pod, pooled: bool = False) -> KubeFleet:
    fleet = KubeFleet("kubernetes", pooled=pooled)
    for one in pods:
        fleet.put(one)
    fleet.listed()
    return fleet


def addresses(fleet: KubeFleet) -> list[str]:
    return sorted(endpoint.address for endpoint in fleet.listed().endpoints)


def changed(changes: tuple[SourceChange, ...]) -> list[Endpoint]:
    return [change.endpoint for change in changes if isinstance(change, Changed)]


def gone(changes: tuple[SourceChange, ...]) -> list[str]:
    return [change.identity for change in changes if isinstance(change, Gone)]


def test_new_pod_is_one_change_and_the_same_again_is_none() -> None:
    fleet = a_fleet()
    fleet.put(pod(resourceVersion="1"))
    assert [one.address for one in changed(fleet.changes())] == ["10.0.0.1:8000"]
    fleet.put(pod(resourceVersion="1", ready=False))  # the same version: the same object, whatever it says
    fleet.put(pod(resourceVersion="2", annotations={"x": "y"}))
    assert fleet.changes() == ()


def test_pod_that_turns_not_ready_is_told_with_its_new_health() -> None:
    fleet = a_fleet(pod())
    fleet.put(pod(ready=False))
    assert [one.health for one in changed(fleet.changes())] == [Health.NOT_READY]


def test_pod_that_is_deleted_is_gone() -> None:
    one = pod()
    fleet = a_fleet(one)
    identity = fleet.listed().endpoints[0].identity
    fleet.drop(one.subject)
    fleet.drop(one.subject)
    assert fleet.changes() == (Gone("kubernetes", identity),)
    assert fleet.listed().endpoints == ()


def test_pod_replaced_under_its_name_and_address_is_another_endpoint() -> None:
    fleet = a_fleet(pod(uid="first"))
    fleet.put(pod(uid="second"))
    changes = fleet.changes()
    assert gone(changes) == ["first@10.0.0.1:8000"]
    assert [one.identity for one in changed(changes)] == ["second@10.0.0.1:8000"]


def test_pod_that_gets_another_address_is_another_endpoint() -> None:
    fleet = a_fleet(pod())
    fleet.put(pod(ip="10.0.0.9"))
    changes = fleet.changes()
    assert gone(changes) == ["uid-vllm-0@10.0.0.1:8000"]
    assert [one.address for one in changed(changes)] == ["10.0.0.9:8000"]


def test_of_two_ready_pods_with_one_address_the_newer_has_it_and_the_other_a_remark() -> None:
    fleet = a_fleet(
        pod("old", creationTimestamp="2026-01-01T00:00:00Z"), pod("new", creationTimestamp="2026-01-01T00:00:05Z")
    )
    assert [one.name for one in fleet.listed().endpoints] == ["llm/new"]
    assert list(fleet.warnings()) == ["Pod llm/old"]
    assert "10.0.0.1:8000" in fleet.warnings()["Pod llm/old"]
    fleet.drop("Pod llm/new")
    changes = fleet.changes()
    assert [one.name for one in changed(changes)] == ["llm/old"]
    assert len(gone(changes)) == 1
    assert fleet.warnings() == {}


def test_address_of_a_pod_that_is_leaving_is_its_successors_without_a_remark() -> None:
    leaving = pod("old", creationTimestamp="2026-01-01T00:00:05Z", deletionTimestamp="2026-01-01T00:01:00Z")
    fleet = a_fleet(leaving, pod("new", creationTimestamp="2026-01-01T00:00:00Z"))
    assert [one.name for one in fleet.listed().endpoints] == ["llm/new"]
    assert fleet.warnings() == {}


def test_several_pods_without_an_address_are_endpoints_of_their_own() -> None:
    fleet = a_fleet(pod("a", None, ready=False), pod("b", None, ready=False))
    assert [one.name for one in fleet.listed().endpoints] == ["llm/a", "llm/b"]


def test_many_changes_at_once_are_one_listing() -> None:
    fleet = a_fleet()
    for number in range(MANY + 1):
        fleet.put(pod(f"vllm-{number}", f"10.0.0.{number + 1}"))
    (listing,) = fleet.changes()
    assert isinstance(listing, Listed)
    assert len(listing.endpoints) == MANY + 1


def test_listing_drops_what_it_did_not_name_in_its_own_namespace_only() -> None:
    fleet = a_fleet(pod("a", "10.0.0.1"), pod("b", "10.0.0.2"), pod("c", "10.0.0.3", namespace="other"))
    fleet.keep_only(Pod, "llm", {"Pod llm/b"})
    assert addresses(fleet) == ["10.0.0.2:8000", "10.0.0.3:8000"]
    fleet.keep_only(Pod, None, set())
    assert addresses(fleet) == []


def test_listing_of_one_kind_leaves_the_others() -> None:
    fleet = a_fleet(pod())
    fleet.put(msgspec.json.decode(json.dumps(a_slice("s", "192.168.1.5")), type=EndpointSlice))
    fleet.keep_only(Pod, "llm", set())
    assert addresses(fleet) == ["192.168.1.5:9000"]
    fleet.keep_only(EndpointSlice, "llm", set())
    assert addresses(fleet) == []


def test_object_that_cannot_be_read_any_more_counts_no_more_and_has_a_remark() -> None:
    fleet = a_fleet(pod())
    fleet.unreadable("Pod llm/vllm-0", "odd")
    assert len(gone(fleet.changes())) == 1
    assert fleet.warnings() == {"Pod llm/vllm-0": "left out: odd"}
    fleet.put(pod())
    assert fleet.warnings() == {}


def test_unreadable_object_is_forgotten_by_a_listing_without_it() -> None:
    fleet = a_fleet()
    fleet.unreadable("Pod llm/a", "odd")
    fleet.unreadable("Pod other/b", "odd")
    fleet.keep_only(Pod, "llm", set())
    assert list(fleet.warnings()) == ["Pod other/b"]
    fleet.keep_only(Pod, None, set())
    assert fleet.warnings() == {}


def models(fleet: KubeFleet) -> list[list[str]]:
    return [[model.id for model in endpoint.models] for endpoint in fleet.listed().endpoints]


def test_adapter_is_served_by_the_pods_it_names_whichever_comes_first() -> None:
    for adapter_first in (True, False):
        fleet = a_fleet()
        for one in sorted([pod(), adapter("lora", "vllm-0")], key=lambda one: isinstance(one, Pod) is adapter_first):
            fleet.put(one)
        assert models(fleet) == [["chat-m", "lora"]]


def test_adapter_survives_changes_of_its_pod_and_moves_with_its_instances() -> None:
    fleet = a_fleet(pod("a", "10.0.0.1"), pod("b", "10.0.0.2"))
    fleet.put(adapter("lora", "a"))
    fleet.put(pod("a", "10.0.0.1", annotations={"model.aibrix.ai/config": "{}"}))
    assert models(fleet) == [["chat-m", "lora"], ["chat-m"]]
    fleet.put(adapter("lora", "b"))
    assert models(fleet) == [["chat-m"], ["chat-m", "lora"]]
    fleet.drop("ModelAdapter llm/lora")
    assert models(fleet) == [["chat-m"], ["chat-m"]]


def test_adapter_of_pods_that_are_missing_has_a_remark_until_they_come() -> None:
    fleet = a_fleet()
    fleet.put(adapter("lora", "vllm-0"))
    assert "Pod llm/vllm-0" in fleet.warnings()["ModelAdapter llm/lora"]
    fleet.put(pod())
    assert fleet.warnings() == {}


def test_pods_of_a_pool_wait_for_it_and_have_each_of_its_ports() -> None:
    fleet = a_fleet(pod(labels={}), pooled=True)
    assert addresses(fleet) == []
    fleet.put(pool(8000, 8001))
    assert addresses(fleet) == ["10.0.0.1:8000", "10.0.0.1:8001"]
    fleet.put(pool(8001, 8002))
    assert addresses(fleet) == ["10.0.0.1:8001", "10.0.0.1:8002"]


def test_pod_of_a_pool_with_active_ports_has_only_those() -> None:
    fleet = a_fleet(pooled=True)
    fleet.put(pool(8000, 8001))
    fleet.put(pod(annotations={"llm-d.ai/active-ports": "8001"}))
    assert addresses(fleet) == ["10.0.0.1:8001"]


def test_pool_that_is_deleted_leaves_its_endpoints_known_but_not_to_be_picked_until_it_is_back() -> None:
    fleet = a_fleet(pooled=True)
    fleet.put(pool(8000))
    fleet.put(pod())
    before = fleet.listed().endpoints
    fleet.drop("InferencePool llm/pool")
    (endpoint,) = changed(fleet.changes())
    assert (endpoint.health, endpoint.detail) == (Health.NOT_READY, WITHDRAWN)
    assert fleet.warnings() == {"InferencePool": WITHDRAWN}
    fleet.put(pool(8000))
    assert fleet.listed().endpoints == before
    assert fleet.warnings() == {}
