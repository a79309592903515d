"""A source that runs, the fleet it makes, and two clusters for it: the double and a real API server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

from aibrix_extproc.adapters.kube.source import KubernetesSource
from aibrix_extproc.adapters.kube.watching import WatchPace
from aibrix_extproc.app.fleet_store import FleetStore
from aibrix_extproc.app.ports import ClusterSource
from aibrix_extproc.config_files.file import SourceStatus
from aibrix_extproc.core.fleet.model import Endpoint, Health
from aibrix_extproc.core.fleet.reduce import SourceChange
from aibrix_extproc.settings import KubernetesSettings
from tests.fakes.kube_api import BUILT_IN, VERBS, KubeApiDouble
from tests.waiting import until

Tree = dict[str, Any]
FAST = WatchPace(
    page_size=3, silence_seconds=20.0, first_wait_seconds=0.02, longest_wait_seconds=0.1, absent_seconds=0.05,
    short_seconds=0.02,
)  # fmt: skip


class Cluster(Protocol):
    """What a test of discovery needs of a cluster."""

    namespace: str

    async def put(self, one: Tree) -> None:
        """Create or change, status included."""

    async def delete(self, one: Tree) -> None:
        """Remove at once."""

    async def terminate(self, one: Tree) -> None:
        """Begin to delete a pod."""

    async def found(self, kind: str) -> list[Tree]:
        """What there is of a kind, in order of names."""
        ...

    async def permit(self, rules: list[Tree]) -> None:
        """Let the user `publisher` do this, and nothing else."""

    async def install(self, plural: str, *, there: bool = True) -> None:
        """Have a custom kind, or not."""

    def kubeconfig(self, folder: Path, *, token: str = "") -> Path:
        """A file that leads there, with full rights unless a token of somebody else is given."""

    async def go_away(self) -> None:
        """Stop answering."""

    async def come_back(self) -> None:
        """Answer again."""


class DoubleCluster:
    """The double as a cluster."""

    def __init__(self, api: KubeApiDouble) -> None:
        self.api = api
        self.namespace = "llm"

    async def put(self, one: Tree) -> None:
        await self.api.put(one)

    async def delete(self, one: Tree) -> None:
        await self.api.delete(one)

    async def terminate(self, one: Tree) -> None:
        await self.api.put(one | {"metadata": one["metadata"] | {"deletionTimestamp": "2026-01-01T00:00:30Z"}})

    async def found(self, kind: str) -> list[Tree]:
        return self.api.objects(f"{kind.lower()}s", self.namespace)

    async def permit(self, rules: list[Tree]) -> None:
        allowed = {f"{verb} {plural}" for rule in rules for plural in rule["resources"] for verb in rule["verbs"]}
        every = {f"{verb} {plural}" for plural in BUILT_IN for verb in (*VERBS.values(), "list", "watch")}
        self.api.denied = every - allowed

    async def install(self, plural: str, *, there: bool = True) -> None:
        if there:
            self.api.installed.add(plural)
        else:
            self.api.installed.discard(plural)

    def kubeconfig(self, folder: Path, *, token: str = "") -> Path:
        if token == "nobody":
            self.api.denied = {"pods"}
        return self.api.kubeconfig(folder, namespace=self.namespace, token=token)

    async def go_away(self) -> None:
        await self.api.stop()

    async def come_back(self) -> None:
        await self.api.start()


class Discovery:
    """What a running source has made of the cluster."""

    def __init__(self, source: KubernetesSource, statuses: list[SourceStatus]) -> None:
        self.source = source
        self.statuses = statuses
        self.changes: list[SourceChange] = []
        self.store = FleetStore([source.name])

    def emit(self, change: SourceChange) -> None:
        self.changes.append(change)
        self.store.apply(change)

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        return self.store.snapshot.endpoints

    @property
    def healths(self) -> list[Health]:
        return [one.health for one in self.endpoints]

    def usable(self) -> list[str]:
        """Addresses that may be picked (an engine whose models are unknown would be asked first)."""
        return sorted(one.address for one in self.endpoints if one.health in (Health.READY, Health.UNKNOWN))

    def models(self) -> dict[str, list[str]]:
        return {name: [one.name for one in found] for name, found in self.store.snapshot.by_model.items()}

    async def until_usable(self, *addresses: str, seconds: float = 60.0) -> None:
        await until(
            lambda: self.usable() == sorted(addresses), lambda: f"{self.usable()} {self.endpoints}", seconds=seconds
        )


@asynccontextmanager
async def discovering(
    cluster: Cluster, folder: Path, *, pace: WatchPace = FAST, token: str = "", **settings: Any
) -> AsyncIterator[Discovery]:
    """A source on the cluster's namespace."""
    kubeconfig = cluster.kubeconfig(folder, token=token)
    given = {"namespaces": (cluster.namespace,), "kubeconfig": kubeconfig, "enabled": True, **settings}
    statuses: list[SourceStatus] = []
    source = KubernetesSource(KubernetesSettings.model_validate(given), statuses.append, pace=pace)
    fits: ClusterSource = source
    discovery = Discovery(source, statuses)
    task = asyncio.ensure_future(fits.run(discovery.emit))
    try:
        yield discovery
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.wait([task])
