"""ModelAdapters of a cluster become records, are loaded on simulated engines, and are told so in their status."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from aibrix_extproc.adapters.kube.watching import WatchPace
from aibrix_extproc.adapters.ledger.database import Database
from aibrix_extproc.app.metadata.model_adapters import ModelAdapters, Pace
from aibrix_extproc.app.metadata.records import all_records
from aibrix_extproc.core.control.rows import Section
from aibrix_extproc.core.operations.desired import DesiredAdapter
from aibrix_extproc.settings import KubernetesSettings
from tests.fakes.kube_api import KubeApiDouble
from tests.kubeobjects import Tree, metadata
from tests.metadata.working_engines import Engines
from tests.waiting import until

FAST = Pace(
    round_seconds=0.05, gather_seconds=0.01, wait_seconds=0.05,
    watch=WatchPace(first_wait_seconds=0.02, longest_wait_seconds=0.1, absent_seconds=0.05, short_seconds=0.02),
)  # fmt: skip


def declared(name: str = "sql", **spec: Any) -> Tree:
    return {
        "apiVersion": "model.aibrix.ai/v1alpha1", "kind": "ModelAdapter", "metadata": metadata(name),
        "spec": {"baseModel": "llama", "artifactURL": f"/adapters/{name}", "podSelector": {}} | spec,
    }  # fmt: skip


@dataclass
class Rig:
    """A cluster, engines, and what follows the objects."""

    cluster: KubeApiDouble
    engines: Engines
    kubeconfig: Path
    holds: bool = True

    @asynccontextmanager
    async def following(self) -> AsyncIterator[ModelAdapters]:
        settings = KubernetesSettings(enabled=True, kubeconfig=self.kubeconfig)
        engines = self.engines
        part = ModelAdapters(settings, engines.control, engines.states, lambda: self.holds, engines.wake, pace=FAST)
        task = asyncio.create_task(part.run())
        try:
            yield part
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def records(self) -> dict[str, DesiredAdapter]:
        return {one.name: one for _, one in await all_records(self.engines.control, Section.ADAPTERS, DesiredAdapter)}

    def status(self, name: str = "sql") -> Tree:
        found = next(one for one in self.cluster.objects("modeladapters", "llm") if one["metadata"]["name"] == name)
        return found.get("status") or {}

    async def wait_phase(self, phase: str, name: str = "sql") -> None:
        await until(lambda: self.status(name).get("phase") == phase, lambda: f"{phase}: {self.status(name)}")

    async def wait_records(self, *names: str) -> dict[str, DesiredAdapter]:
        async def there() -> bool:
            return set(await self.records()) == set(names)

        await until(there, f"the records are {names}")
        return await self.records()


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    database = Database(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    await database.open()
    async with KubeApiDouble() as cluster, Engines(database) as engines:
        yield Rig(cluster, engines, cluster.kubeconfig(tmp_path))
    await database.close()


async def test_an_object_is_loaded_told_and_unloaded_with_its_end(rig: Rig) -> None:
    await rig.engines.start("llm/a", "llm/b")
    await rig.cluster.put(declared())
    async with rig.engines.working(), rig.following():
        await rig.engines.wait_loaded("sql", "llm/a", "llm/b")
        await until(lambda: rig.status().get("instances") == ["a", "b"], lambda: str(rig.status()))
        assert (rig.status()["phase"], rig.status()["readyReplicas"]) == ("Running", 2)
        assert rig.status()["conditions"][0]["status"] == "True"
        await rig.cluster.delete(declared())
        await rig.engines.wait_loaded("sql")
        assert await rig.records() == {}


async def test_a_slip_is_told_and_the_others_are_followed(rig: Rig) -> None:
    await rig.cluster.put(declared("bad", artifactURL="file:///etc/passwd"))
    await rig.cluster.put(declared("good"))
    async with rig.following() as part:
        await rig.wait_phase("Failed", "bad")
        await rig.wait_phase("Pending", "good")
        assert set(await rig.records()) == {"good"}
        assert "path" in rig.status("bad")["conditions"][0]["message"]
        assert list(part.remarks) == ["ModelAdapter llm/bad"]
        await rig.cluster.put(declared("bad"))
        await rig.wait_records("bad", "good")


async def test_records_that_went_out_of_date_while_nobody_looked_are_removed_and_own_ones_stay(rig: Rig) -> None:
    await rig.engines.want(DesiredAdapter("gone", "/gone", "llama", source="ModelAdapter llm/gone"))
    await rig.engines.want(DesiredAdapter("own", "/own", "llama"))
    await rig.cluster.put(declared("own"))
    async with rig.following():
        found = await rig.wait_records("own")
        assert found["own"].source == ""
        await rig.wait_phase("Failed", "own")


async def test_a_cluster_that_cannot_be_read_changes_nothing(rig: Rig) -> None:
    await rig.engines.want(DesiredAdapter("sql", "/adapters/sql", "llama", source="ModelAdapter llm/sql"))
    rig.cluster.denied.add("modeladapters")
    async with rig.following() as part:
        await until(lambda: part.degraded, "it is said")
        asked = rig.cluster.asked["list modeladapters"]
        await until(lambda: rig.cluster.asked["list modeladapters"] > asked + 1, "it is tried again")
        assert set(await rig.records()) == {"sql"}
        rig.cluster.denied.clear()
        await rig.wait_records()
        await until(lambda: not part.degraded, "it is well again")


async def test_only_the_holder_of_the_lease_writes(rig: Rig) -> None:
    rig.holds = False
    await rig.cluster.put(declared())
    async with rig.following() as part:
        await until(lambda: part.report()["objects"] == 1, "it is seen")
        await asyncio.sleep(5 * FAST.round_seconds)  # rounds in which it could have written
        assert (await rig.records(), rig.status()) == ({}, {})
        rig.holds = True
        await rig.wait_phase("Pending")


async def test_a_status_that_another_controller_writes_is_left_to_it(rig: Rig) -> None:
    await rig.cluster.put(declared())
    async with rig.following() as part:

        async def given_up() -> bool:
            if rig.status().get("phase") == "Pending":
                await rig.cluster.put(declared() | {"status": {"phase": "Bound"}})
            return bool(part.report()["status_not_written"])

        await until(given_up, "it is left alone")
        assert rig.status() == {"phase": "Bound"}


async def test_rights_that_lack_for_the_status_are_named(rig: Rig) -> None:
    rig.cluster.denied.add("update modeladapters/status")
    await rig.cluster.put(declared())
    async with rig.following() as part:
        await until(lambda: "modeladapters/status" in str(part.report()), lambda: str(part.report()))
        assert part.degraded
        rig.cluster.denied.clear()
        await rig.wait_phase("Pending")
