"""Who may write, of several replicas: never two, and somebody again soon after the one who could has gone."""

import asyncio
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
from tests.adapters.kube.rig import Cluster, DoubleCluster
from tests.waiting import until

pytestmark = pytest.mark.slow

NAME = "who-writes"
PACE = LeasePace(duration_seconds=5, give_up_seconds=3.0, retry_seconds=0.1, request_seconds=2.0)
PATIENT = replace(PACE, duration_seconds=60, give_up_seconds=40.0)  # nobody waits for the end of a lease
LONG_AGO = "1990-01-01T00:00:00.000000Z"


class Replica:
    def __init__(self, election: Election, task: "asyncio.Future[None]") -> None:
        self.election = election
        self.task = task

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


@asynccontextmanager
async def electing(
    cluster: Cluster, folder: Path, identity: str, *, pace: LeasePace = PACE, token: str = ""
) -> AsyncIterator[Replica]:
    access = find_access(cluster.kubeconfig(folder, token=token), None)
    async with KubeApi(access) as api:
        election = Election(api, cluster.namespace, NAME, identity, pace=pace)
        replica = Replica(election, asyncio.ensure_future(election.run()))
        try:
            yield replica
        finally:
            await replica.stop()


async def lease(cluster: Cluster) -> dict[str, Any]:
    found: dict[str, Any] = (await cluster.found("Lease"))[0]["spec"]
    return found


async def write(cluster: Cluster, **spec: Any) -> None:
    """As another replica does."""
    await cluster.put({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": NAME, "namespace": cluster.namespace},
        "spec": {"leaseDurationSeconds": 2, "renewTime": LONG_AGO, **spec},
    })  # fmt: skip


async def test_first_replica_leads_and_keeps_leading(cluster: Cluster, tmp_path: Path) -> None:
    async with electing(cluster, tmp_path, "one") as one:
        await until(lambda: one.election.leads)
        first = await lease(cluster)
        assert (first["holderIdentity"], first["leaseDurationSeconds"], first["leaseTransitions"]) == ("one", 5, 0)
        async with electing(cluster, tmp_path, "two") as two:
            await asyncio.sleep(5.5)  # longer than a lease lasts that nobody renews
            assert (one.election.leads, two.election.leads) == (True, False)
            assert two.election.leader == "one"
            later = await lease(cluster)
            assert later["renewTime"] > first["renewTime"]
            assert later["acquireTime"] == first["acquireTime"]


async def test_every_subscriber_is_called_after_each_attempt_whatever_another_one_does(
    double: DoubleCluster, tmp_path: Path
) -> None:
    async with electing(double, tmp_path, "one") as one:
        first, second = list[bool](), list[bool]()

        def broken() -> None:
            raise RuntimeError("a bug")

        one.election.subscribe(lambda: first.append(one.election.leads))
        one.election.subscribe(broken)
        one.election.subscribe(lambda: second.append(one.election.leads))
        await until(lambda: second[-3:] == [True] * 3)
        assert first == second
        assert one.election.leads


async def test_leader_that_ends_hands_over_without_a_wait(cluster: Cluster, tmp_path: Path) -> None:
    async with (
        electing(cluster, tmp_path, "one", pace=PATIENT) as one,
        electing(cluster, tmp_path, "two", pace=PATIENT) as two,
    ):
        await until(lambda: one.election.leads != two.election.leads)
        first, second = (one, two) if one.election.leads else (two, one)
        await first.stop()
        assert not first.election.leads
        await until(lambda: second.election.leads, seconds=30)
        assert (await lease(cluster))["leaseTransitions"] >= 1


async def test_leader_that_ends_in_the_middle_of_a_renewal_gives_its_lease_back(
    double: DoubleCluster, tmp_path: Path
) -> None:
    async with electing(double, tmp_path, "one") as one:
        await until(lambda: one.election.leads)
        renewed = double.api.asked["update leases"]
        double.api.late_writes.add("update leases")
        await until(lambda: double.api.asked["update leases"] > renewed)
        double.api.late_writes.clear()
        await one.stop()
        assert (await lease(double))["holderIdentity"] == ""


async def test_leader_that_was_overruled_when_it_ends_leaves_the_lease_to_the_other(
    double: DoubleCluster, tmp_path: Path
) -> None:
    async with electing(double, tmp_path, "one", pace=replace(PACE, retry_seconds=60.0)) as one:
        await until(lambda: one.election.leads)
        await write(double, holderIdentity="two")
        await one.stop()
        assert (await lease(double))["holderIdentity"] == "two"


def test_default_pace_lets_a_holder_end_its_last_write_and_miss_two_renewals() -> None:
    pace = LeasePace()
    assert pace.give_up_seconds + max(WRITE_SECONDS, pace.request_seconds) <= pace.duration_seconds
    assert 3 * pace.retry_seconds * 1.25 <= pace.give_up_seconds


async def test_leader_that_died_is_followed_when_its_lease_has_run_out_and_not_before(
    cluster: Cluster, tmp_path: Path
) -> None:
    await write(cluster, holderIdentity="dead")  # and renewed long ago, by a wall clock that does not count
    started = asyncio.get_running_loop().time()
    async with electing(cluster, tmp_path, "one") as one:
        assert not one.election.has_leader or one.election.leader == "dead"
        await until(lambda: one.election.leads)
        assert asyncio.get_running_loop().time() - started >= 2.0
        assert (await lease(cluster))["leaseTransitions"] == 1


async def test_holder_whose_clock_is_years_behind_keeps_its_lease_while_it_renews(
    cluster: Cluster, tmp_path: Path
) -> None:
    async with electing(cluster, tmp_path, "one") as one:
        for number in range(50):  # for six seconds, of leases of four
            renewed = f"1990-01-01T00:00:00.{number:06}Z"
            await write(cluster, holderIdentity="slow", leaseDurationSeconds=4, renewTime=renewed)
            await asyncio.sleep(0.12)
            assert not one.election.leads
        assert one.election.has_leader


async def test_leader_stops_leading_when_it_cannot_renew_and_leads_again_later(
    cluster: Cluster, tmp_path: Path
) -> None:
    async with electing(cluster, tmp_path, "one") as one:
        await until(lambda: one.election.leads)
        await cluster.go_away()
        gone = asyncio.get_running_loop().time()
        await until(lambda: not one.election.leads)
        assert asyncio.get_running_loop().time() - gone < PACE.duration_seconds
        await until(lambda: "cannot be reached" in one.election.error)
        await cluster.come_back()
        await until(lambda: one.election.leads, seconds=30)
        assert one.election.error == ""


async def test_leader_that_is_overruled_gives_way(cluster: Cluster, tmp_path: Path) -> None:
    async with electing(cluster, tmp_path, "one") as one:
        await until(lambda: one.election.leads)
        await write(cluster, holderIdentity="two", leaseDurationSeconds=60)
        await until(lambda: one.election.leader == "two")
        assert not one.election.leads


async def test_two_replicas_never_lead_at_once_however_often_they_change(cluster: Cluster, tmp_path: Path) -> None:
    async with electing(cluster, tmp_path, "fixed") as fixed:
        for number in range(4):
            async with electing(cluster, tmp_path, f"passing-{number}") as passing:
                for _ in range(60):
                    assert not (fixed.election.leads and passing.election.leads)
                    await asyncio.sleep(0.005)
                await (fixed if fixed.election.leads else passing).stop()
                if fixed.task.done():
                    await until(lambda: passing.election.leads)
                    fixed.task = asyncio.ensure_future(fixed.election.run())


async def test_renewal_whose_answer_is_lost_costs_no_change_of_leader(double: DoubleCluster, tmp_path: Path) -> None:
    async with electing(double, tmp_path, "one") as one:
        await until(lambda: one.election.leads)
        double.api.late_writes.add("update leases")
        await until(lambda: one.election.error != "")
        double.api.late_writes.clear()
        await until(lambda: one.election.leads and one.election.error == "")
        assert (await lease(double))["leaseTransitions"] == 0


async def test_missing_right_is_named_with_the_rule(cluster: Cluster, tmp_path: Path) -> None:
    await cluster.permit([])
    async with electing(cluster, tmp_path, "one", token="publisher") as one:
        await until(lambda: "not allowed" in one.election.error)
        rule = 'apiGroups: ["coordination.k8s.io"], resources: ["leases"], verbs: ["get", "create", "update"]'
        assert rule in one.election.error
        assert f"a Role in the namespace {cluster.namespace}" in one.election.error
        assert not one.election.leads


async def test_what_others_have_written_on_the_lease_stays(cluster: Cluster, tmp_path: Path) -> None:
    await cluster.put({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": {},
        "metadata": {"name": NAME, "namespace": cluster.namespace, "labels": {"team": "a"}},
    })  # fmt: skip
    async with electing(cluster, tmp_path, "one") as one:
        await until(lambda: one.election.leads)
        assert (await cluster.found("Lease"))[0]["metadata"]["labels"] == {"team": "a"}
