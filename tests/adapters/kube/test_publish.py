"""The fleet as EndpointSlices of one Service, by one of several replicas, on the double and on a real API server."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aibrix_extproc.adapters.kube.access import find_access
from aibrix_extproc.adapters.kube.api import KubeApi
from aibrix_extproc.adapters.kube.lease import Election, LeasePace
from aibrix_extproc.adapters.kube.own_slices import WRITE_SECONDS
from aibrix_extproc.adapters.kube.publish import EndpointPublisher, PublishPace
from aibrix_extproc.config_files.file import SourceStatus
from aibrix_extproc.core.fleet.kubernetes.slices import MANAGER, MANAGER_LABEL, SERVICE_LABEL
from aibrix_extproc.core.fleet.model import Endpoint, Snapshot
from aibrix_extproc.settings import KubernetesSettings
from tests.adapters.kube.rig import FAST, Cluster, DoubleCluster
from tests.build import a_snapshot, an_endpoint
from tests.kubeobjects import a_service
from tests.waiting import until

pytestmark = pytest.mark.slow

SERVICE = "engines"
PACE = PublishPace(
    gather_seconds=0.02, rest_seconds=0.02, first_wait_seconds=0.02, longest_wait_seconds=0.1, service_seconds=0.2,
    watch=FAST,
)  # fmt: skip
LEASE_PACE = LeasePace(duration_seconds=60, give_up_seconds=3.0, retry_seconds=0.1, request_seconds=2.0)
RULES: list[dict[str, Any]] = [
    {
        "apiGroups": ["discovery.k8s.io"],
        "resources": ["endpointslices"],
        "verbs": ["get", "list", "watch", "create", "update", "delete"],
    },
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
    {
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "verbs": ["get", "update"],
        "resourceNames": ["aibrix-extproc-publisher"],
    },
    {"apiGroups": [""], "resources": ["services"], "verbs": ["get"], "resourceNames": [SERVICE]},
]


class Replica:
    """A publisher and the fleet that it sees."""

    def __init__(self, cluster: Cluster, kubeconfig: Path, pace: PublishPace) -> None:
        self.cluster = cluster
        self.snapshot = Snapshot()
        self.statuses: list[SourceStatus] = []
        settings = KubernetesSettings(enabled=True, kubeconfig=kubeconfig, publish_service=SERVICE)
        self.api = KubeApi(find_access(kubeconfig, None))
        namespace, identity = cluster.namespace, f"pod-{uuid.uuid4()}"
        election = self.election = Election(self.api, namespace, settings.lease_name, identity, pace=LEASE_PACE)
        self.publisher = EndpointPublisher(
            settings, lambda: self.snapshot, self.statuses.append, leader=election, pace=pace
        )
        self.task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        async with self.api, asyncio.TaskGroup() as group:
            group.create_task(self.election.run())
            group.create_task(self.publisher.run())

    def fleet(self, *endpoints: Endpoint) -> None:
        self.snapshot = a_snapshot(*endpoints) if endpoints else Snapshot(known=True)
        self.publisher.wake()

    @property
    def error(self) -> str:
        return self.statuses[-1].error if self.statuses else ""

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


@asynccontextmanager
async def publishing(
    cluster: Cluster, folder: Path, *endpoints: Endpoint, token: str = "", pace: PublishPace = PACE
) -> AsyncIterator[Replica]:
    replica = Replica(cluster, cluster.kubeconfig(folder, token=token), pace)
    if endpoints:
        replica.fleet(*endpoints)
    try:
        yield replica
        assert replica.task.cancelled() or not replica.task.done(), replica.task
    finally:
        await replica.stop()


async def published(cluster: Cluster) -> dict[str, list[str]]:
    """Addresses by slice of ours."""
    return {
        one["metadata"]["name"]: [endpoint["addresses"][0] for endpoint in one["endpoints"] or []]
        for one in await cluster.found("EndpointSlice")
        if one["metadata"].get("labels", {}).get(MANAGER_LABEL) == MANAGER
    }


async def until_published(cluster: Cluster, expected: dict[str, list[str]], seconds: float = 60.0) -> None:
    found: dict[str, list[str]] = {}

    async def is_published() -> bool:
        found.clear()
        found.update(await published(cluster))
        return found == expected

    await until(is_published, lambda: f"published is {found}", seconds=seconds)


def first(*hosts: int) -> dict[str, list[str]]:
    return {"engines-ipv4-8000-0": [f"10.0.0.{host}" for host in hosts]}


def foreign(cluster: Cluster, name: str, **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": cluster.namespace, "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 1, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["10.9.9.9"]}],
    }


async def test_fleet_is_published_and_followed(cluster: Cluster, tmp_path: Path) -> None:
    async with publishing(cluster, tmp_path, an_endpoint(1), an_endpoint(2)) as one:
        await until_published(cluster, first(1, 2))
        one.fleet(an_endpoint(1), an_endpoint(2), an_endpoint(3))
        await until_published(cluster, first(1, 2, 3))
        one.fleet(an_endpoint(2), an_endpoint(3))
        await until_published(cluster, first(2, 3))
        await until(lambda: one.publisher.published == 2)
        assert one.publisher.leads
        one.fleet()
        await until_published(cluster, {})


async def test_nothing_is_written_before_the_fleet_is_known(cluster: Cluster, tmp_path: Path) -> None:
    async with publishing(cluster, tmp_path, an_endpoint(1)):
        await until_published(cluster, first(1))
    async with publishing(cluster, tmp_path) as one:  # after a restart
        await until(lambda: one.publisher.leads and one.publisher.published == 1)
        await asyncio.sleep(0.2)
        assert await published(cluster) == first(1)
        one.fleet(an_endpoint(2))
        await until_published(cluster, first(2))


async def test_restart_with_the_same_fleet_writes_nothing(double: DoubleCluster, tmp_path: Path) -> None:
    await double.put(a_service(SERVICE, "http"))
    async with publishing(double, tmp_path, an_endpoint(1), an_endpoint(2)):
        await until_published(double, first(1, 2))
    versions = [one["metadata"]["resourceVersion"] for one in await double.found("EndpointSlice")]
    started_at = time.monotonic()
    async with publishing(double, tmp_path, an_endpoint(2), an_endpoint(1)) as again:
        await until(lambda: again.publisher.leads)
        await until(lambda: again.publisher.age_seconds() < time.monotonic() - started_at)
        await asyncio.sleep(0.2)
    assert [one["metadata"]["resourceVersion"] for one in await double.found("EndpointSlice")] == versions


async def test_changes_that_come_together_are_one_write(double: DoubleCluster, tmp_path: Path) -> None:
    async with publishing(double, tmp_path, an_endpoint(200)) as one:
        await until_published(double, first(200))
        for number in range(1, 100):
            one.fleet(*(an_endpoint(host) for host in range(1, number + 1)), an_endpoint(200))
        await until(lambda: one.publisher.published == 100)
        assert double.api.asked["update endpointslices"] <= 2


async def test_change_of_health_is_no_write(double: DoubleCluster, tmp_path: Path) -> None:
    async with publishing(double, tmp_path, an_endpoint(1)) as one:
        await until_published(double, first(1))
        one.fleet(replace(an_endpoint(1), detail="busy"))
        await asyncio.sleep(0.2)
        assert double.api.asked["update endpointslices"] == 0


async def test_only_one_of_two_replicas_writes_and_the_other_goes_on_after_it(
    double: DoubleCluster, tmp_path: Path
) -> None:
    async with publishing(double, tmp_path, an_endpoint(1)) as one, publishing(double, tmp_path, an_endpoint(1)) as two:
        await until_published(double, first(1))
        await until(lambda: one.publisher.leads != two.publisher.leads)
        leader, follower = (one, two) if one.publisher.leads else (two, one)
        follower.fleet(an_endpoint(2))
        await asyncio.sleep(0.2)
        assert await published(double) == first(1)
        assert follower.publisher.published == 1
        assert follower.publisher.age_seconds() < 10
        await leader.stop()
        await until_published(double, first(2), seconds=30)  # of the minute of a lease


async def test_dead_leader_is_followed_when_its_lease_has_run_out(cluster: Cluster, tmp_path: Path) -> None:
    await cluster.put({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "aibrix-extproc-publisher", "namespace": cluster.namespace},
        "spec": {"holderIdentity": "killed", "leaseDurationSeconds": 4, "renewTime": "2026-01-01T00:00:00.000000Z"},
    })  # fmt: skip
    async with publishing(cluster, tmp_path, an_endpoint(1)) as one:
        await until(lambda: one.publisher.report()["leader"] == "killed")
        assert await published(cluster) == {}
        await until_published(cluster, first(1))


async def test_slices_of_others_stay_as_they_are(cluster: Cluster, tmp_path: Path) -> None:
    others = [
        foreign(cluster, "engines-ipv4-8000-0"),  # has the name that we would give
        foreign(cluster, "hand-made", **{SERVICE_LABEL: SERVICE}),
        foreign(cluster, "another", **{SERVICE_LABEL: "other", MANAGER_LABEL: MANAGER}),
    ]
    for other in others:
        await cluster.put(other)
    before = {one["metadata"]["name"]: one for one in await cluster.found("EndpointSlice")}
    async with publishing(cluster, tmp_path, an_endpoint(1)) as one:
        await until(lambda: one.publisher.published == 1)
        one.fleet()
        await until(lambda: one.publisher.published == 0)
    after = {one["metadata"]["name"]: one for one in await cluster.found("EndpointSlice")}
    assert after == before


async def test_name_that_somebody_else_has_given_up_is_not_remembered(double: DoubleCluster, tmp_path: Path) -> None:
    """Neither of slices that the watch sees but nobody can read, nor of those that it does not see."""
    mark = {SERVICE_LABEL: SERVICE, MANAGER_LABEL: MANAGER}
    odd = foreign(double, "engines-ipv4-8000-0", **mark) | {"addressType": 4}
    hidden = foreign(double, "engines-ipv4-8000-1")
    await double.put(odd)
    await double.put(hidden)
    async with publishing(double, tmp_path, an_endpoint(1)) as one:
        await until(lambda: one.publisher.published == 1)
        await double.delete(odd)
        await double.delete(hidden)
        double.api.compact()  # what the watch does not see is looked for again with the next listing
        double.api.hang_up()
        one.fleet(an_endpoint(1), an_endpoint(2, address="10.0.0.2:7000"))
        await until(lambda: one.publisher.published == 2)
        one.fleet()
        await until_published(double, {})
        one.fleet(an_endpoint(1))
        await until_published(double, first(1))


async def test_service_that_does_not_answer_holds_up_the_first_write_no_longer_than_a_write_may_last(
    double: DoubleCluster, tmp_path: Path
) -> None:
    double.api.late_writes.add("get services")
    async with publishing(double, tmp_path, an_endpoint(1), pace=replace(PACE, service_seconds=600.0)):
        await until_published(double, first(1), seconds=WRITE_SECONDS + 60)


async def test_slice_that_is_edited_or_deleted_by_hand_is_restored(cluster: Cluster, tmp_path: Path) -> None:
    async with publishing(cluster, tmp_path, an_endpoint(1), an_endpoint(2)):
        await until_published(cluster, first(1, 2))
        (ours,) = await cluster.found("EndpointSlice")
        ours = ours | {"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1"}
        await cluster.put(ours | {"endpoints": [{"addresses": ["10.9.9.9"]}]})
        await until_published(cluster, first(1, 2))
        await cluster.delete(ours)
        await until_published(cluster, first(1, 2))


async def test_write_over_a_version_that_was_not_seen_is_looked_at_again(double: DoubleCluster, tmp_path: Path) -> None:
    await double.put(a_service(SERVICE, "http", namespace=double.namespace))
    async with publishing(double, tmp_path, an_endpoint(1)) as one:
        await until_published(double, first(1))
        await until(lambda: double.api.watchers == 1)
        double.api.fall_silent()  # the watch is behind
        (ours,) = await double.found("EndpointSlice")
        await double.put(ours | {"endpoints": [{"addresses": ["10.9.9.9"]}]})
        one.fleet(an_endpoint(1), an_endpoint(2))
        await until_published(double, first(1, 2))
        (ours,) = await double.found("EndpointSlice")
        await double.delete(ours)
        one.fleet(an_endpoint(1), an_endpoint(3))
        await until_published(double, first(1, 3))
        assert one.error == ""


async def test_rules_of_the_documentation_are_enough(cluster: Cluster, tmp_path: Path) -> None:
    await cluster.put(a_service(SERVICE, "http", namespace=cluster.namespace))
    await cluster.permit(RULES)
    async with publishing(cluster, tmp_path, an_endpoint(1), token="publisher") as one:
        await until_published(cluster, first(1))
        one.fleet(an_endpoint(2))
        await until_published(cluster, first(2))
        one.fleet()
        await until_published(cluster, {})
        assert one.error == ""


async def test_missing_right_to_write_is_named_and_taken_up_when_it_is_given(cluster: Cluster, tmp_path: Path) -> None:
    reading = [RULES[0] | {"verbs": ["get", "list", "watch"]}, *RULES[1:]]
    await cluster.permit(reading)
    async with publishing(cluster, tmp_path, an_endpoint(1), token="publisher") as one:
        await until(lambda: "not allowed" in one.error)
        assert f"a Role in the namespace {cluster.namespace}" in one.error
        assert 'verbs: ["get", "list", "watch", "create", "update", "delete"]' in one.error
        assert await published(cluster) == {}


async def test_service_that_cannot_work_is_named(cluster: Cluster, tmp_path: Path) -> None:
    async with publishing(cluster, tmp_path, an_endpoint(1)) as one:
        await until(lambda: one.error == f"there is no Service engines in the namespace {cluster.namespace}")
        await until_published(cluster, first(1))
        wrong = a_service(SERVICE, "web", namespace=cluster.namespace)
        await cluster.put(wrong)
        await until(lambda: "no TCP port named 'http'; it has 'web'" in one.error)
        await cluster.delete(wrong)
        wrong = a_service(SERVICE, "http", selector={"app": "x"}, namespace=cluster.namespace)
        await cluster.put(wrong)
        await until(lambda: "has a selector" in one.error)
        await cluster.delete(wrong)
        await cluster.put(a_service(SERVICE, "http", namespace=cluster.namespace))
        await until(lambda: one.error == "")


async def test_slices_belong_to_their_service(cluster: Cluster, tmp_path: Path) -> None:
    await cluster.put(a_service(SERVICE, "http", namespace=cluster.namespace))
    (service,) = await cluster.found("Service")
    async with publishing(cluster, tmp_path, an_endpoint(1)):

        async def owned() -> list[dict[str, Any]] | None:
            found = await cluster.found("EndpointSlice")
            return found[0]["metadata"].get("ownerReferences") if found else None

        owners = await until(owned, "the slice has an owner")
    assert [(one["kind"], one["name"], one["uid"]) for one in owners] == [
        ("Service", SERVICE, service["metadata"]["uid"])
    ]


async def test_api_server_that_goes_away_is_waited_for_and_caught_up_with(cluster: Cluster, tmp_path: Path) -> None:
    await cluster.put(a_service(SERVICE, "http", namespace=cluster.namespace))
    async with publishing(cluster, tmp_path, an_endpoint(1)) as one:
        await until_published(cluster, first(1))
        await cluster.go_away()
        one.fleet(an_endpoint(2))
        await until(lambda: "cannot be reached" in one.error)
        age = one.publisher.age_seconds()
        await until(lambda: one.publisher.age_seconds() > age + 0.3)
        assert one.publisher.published == 1
        await cluster.come_back()
        await until_published(cluster, first(2), seconds=30)
        await until(lambda: one.error == "" and one.publisher.age_seconds() < 0.5)


async def test_slice_that_is_refused_costs_no_other(double: DoubleCluster, tmp_path: Path) -> None:
    await double.put(a_service(SERVICE, "http", namespace=double.namespace))
    async with publishing(double, tmp_path, an_endpoint(1)) as one:
        await until_published(double, first(1))
        double.api.refused["create endpointslices"] = 422
        one.fleet(an_endpoint(1), an_endpoint(2), an_endpoint(3, address="10.0.0.3:7000"))
        await until_published(double, first(1, 2))
        await until(lambda: "answered 422" in one.error)
        double.api.refused.clear()
        await until_published(double, first(1, 2) | {"engines-ipv4-7000-0": ["10.0.0.3"]})
        await until(lambda: one.error == "")


async def test_leadership_that_is_lost_stops_writing_at_once(double: DoubleCluster, tmp_path: Path) -> None:
    async with publishing(double, tmp_path, an_endpoint(1)) as one:
        await until_published(double, first(1))
        double.api.denied = {"leases"}
        await until(lambda: not one.publisher.leads)
        written = double.api.asked["update endpointslices"]
        one.fleet(an_endpoint(2))
        await asyncio.sleep(0.3)
        assert double.api.asked["update endpointslices"] == written
        assert "leases: not allowed" in one.error


async def test_endpoint_that_cannot_be_published_is_told(cluster: Cluster, tmp_path: Path) -> None:
    async with publishing(cluster, tmp_path, an_endpoint(1), an_endpoint(2, address="127.0.0.1:8000")) as one:
        await until_published(cluster, first(1))
        warnings = one.publisher.report()["remarks"]
        assert isinstance(warnings, dict)
        assert "loopback" in warnings["engine-2"]
