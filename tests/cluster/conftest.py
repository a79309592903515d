"""One cluster for all tests of this folder: real controllers, Envoy Gateway and Envoy, and our manifests applied."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import pytest
import pytest_asyncio
from openai import AsyncOpenAI

from tests.adapters.kube.apiserver import api_server, binaries
from tests.cluster.api import Admin, Tree
from tests.cluster.network import NODE, own_network
from tests.cluster.node import Node
from tests.cluster.plane import ControlPlane, control_plane, lacking
from tests.manifests.built import MANIFESTS
from tests.waiting import until

NAMESPACE: Final = "aibrix-extproc-system"
GATEWAY: Final = "http://127.0.0.1:10080"  # port 80, where Envoy Gateway lets Envoy listen without rights


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a test works with."""

    admin: Admin
    node: Node
    plane: ControlPlane
    session: aiohttp.ClientSession
    openai: AsyncOpenAI

    def async_client(self) -> AsyncOpenAI:
        """A client of the Gateway with connections of its own; it tries everything once."""
        return AsyncOpenAI(base_url=f"{GATEWAY}/v1", api_key="any", max_retries=0)


@pytest.fixture(scope="package")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    lacks, programs = lacking(), binaries()
    if lacks or programs is None:
        pytest.skip(lacks)
    folder = Path(tmp_path_factory.mktemp("cluster"))
    flags: dict[str, object] = {"advertise-address": NODE, "endpoint-reconciler-type": "none"}
    with own_network(), api_server(programs, folder, **flags) as server, control_plane(server, folder) as running:
        yield running


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def cluster(plane: ControlPlane) -> AsyncIterator[Cluster]:
    async with aiohttp.ClientSession() as session:
        admin = Admin(plane.server, session)
        node = Node(admin, plane.server, plane.folder)
        living = asyncio.ensure_future(node.run())
        await asyncio.to_thread(plane.kubectl, "apply", "-k", str(MANIFESTS / "overlays" / "try"))
        await asyncio.to_thread(plane.kubectl, "-n", NAMESPACE, "scale", "deployment/aibrix-extproc", "--replicas=2")
        openai = AsyncOpenAI(base_url=f"{GATEWAY}/v1", api_key="any", max_retries=0)
        found = Cluster(admin, node, plane, session, openai)
        try:
            async with asyncio.timeout(60):
                while not living.done() and not _processors_are_ready(node):  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.05)
            # Processors that were not up when Envoy first asked for their health are asked again after a minute.
            node.life("envoy-").kill()
            await until_serving(found, living)
            yield found
        finally:
            await openai.close()
            living.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await living


async def until_serving(cluster: Cluster, living: "asyncio.Future[None]") -> None:
    """Answers of a simulated engine through the Gateway, again and again, with both processors."""
    body = {"model": "sim-chat", "messages": [{"role": "user", "content": "hi"}]}
    said: object = None
    good = 0
    try:
        async with asyncio.timeout(90):
            while not living.done():
                with contextlib.suppress(aiohttp.ClientError):
                    async with cluster.session.post(f"{GATEWAY}/v1/chat/completions", json=body) as answer:
                        said = answer.status, await answer.text()
                        good = good + 1 if answer.status == 200 else 0
                        if good >= 20 and _processors_are_ready(cluster.node):
                            break
                await asyncio.sleep(0.05)
            else:
                living.result()
            await warm(cluster)
    except TimeoutError as error:
        raise AssertionError(f"the Gateway does not serve: {said}; see {cluster.plane.folder}") from error


async def an_answer(cluster: Cluster) -> int:
    """The status of one chat; 0 without one."""
    body = {"model": "sim-chat", "messages": [{"role": "user", "content": "hi"}]}
    with contextlib.suppress(aiohttp.ClientError):
        async with cluster.session.post(f"{GATEWAY}/v1/chat/completions", json=body) as answer:
            await answer.read()
            return answer.status
    return 0


def _processors_are_ready(node: Node) -> bool:
    found = [life.ready for life in node.lives.values() if life.app == "aibrix-extproc"]
    return found == [True, True]


async def warm(cluster: Cluster) -> None:
    """New clusters of Envoy wait for endpoints that are not sent again, and are used after 15 s."""

    async def are_warm() -> bool:
        async with cluster.session.get("http://127.0.0.1:19000/stats?filter=warming_clusters") as answer:
            return (await answer.text()).strip().endswith(": 0")

    await until(are_warm, "Envoy's clusters are warm")


def an_engine(name: str, model: str, *arguments: str, label: str = "") -> Tree:
    """A pod with a simulated engine; its label is the model's name unless another one is given."""
    labels = {"model.aibrix.ai/name": label or model, "model.aibrix.ai/port": "8000"}
    container = {
        "name": "engine",
        "image": "aibrix-extproc:test",
        "args": ["simulate", "--host", "0.0.0.0", "--port", "8000", "--model", model, *arguments],
        "ports": [{"name": "http", "containerPort": 8000}],
        "readinessProbe": {"httpGet": {"path": "/health", "port": "http"}},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        "spec": {"automountServiceAccountToken": False, "containers": [container]},
    }
