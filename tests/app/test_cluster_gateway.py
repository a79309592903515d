"""`serve --kubernetes` as a process: what it says at its start, and what its health page and metrics tell."""

import asyncio
import contextlib
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests import warm
from tests.adapters.kube.rig import DoubleCluster
from tests.fakes.engine import FakeEngine
from tests.fakes.kube_api import KubeApiDouble
from tests.kubeobjects import MODEL_LABEL, a_pod, a_service
from tests.waiting import until

pytestmark = pytest.mark.slow


@asynccontextmanager
async def serving(*options: str) -> AsyncIterator[str]:
    """A gateway; yields the address of its admin server."""
    async with started(*options) as (_, admin):
        yield admin


@asynccontextmanager
async def started(*options: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """The same, with its process."""
    command = warm.command("aibrix_extproc", "serve", "--port=0", "--admin-port=0", *options)
    process = await asyncio.create_subprocess_exec(*command, stderr=subprocess.PIPE, limit=1 << 20)
    assert process.stderr is not None
    reading: asyncio.Future[None] | None = None
    try:
        async with asyncio.timeout(60):
            while True:
                line = json.loads(await process.stderr.readline())
                if line["message"] == "listening":
                    break
        reading = asyncio.ensure_future(_drain(process.stderr))
        yield process, f"http://{line['admin']}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        if reading is not None:
            await reading


async def _drain(stream: asyncio.StreamReader) -> None:
    while await stream.readline():
        pass


async def page(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    async with session.get(url) as response:
        found: dict[str, Any] = await response.json()
        return found


async def until_page(session: aiohttp.ClientSession, url: str, *, ready: bool, degraded: bool) -> dict[str, Any]:
    async def wanted() -> dict[str, Any] | None:
        found = await page(session, url)
        return found if (found["ready"], found["degraded"]) == (ready, degraded) else None

    return await until(wanted, f"{ready=}, {degraded=}")


async def test_gateway_on_a_cluster_is_ready_keeps_its_fleet_and_says_when_it_is_degraded(tmp_path: Path) -> None:
    async with KubeApiDouble() as api, FakeEngine("chat-m") as engine, aiohttp.ClientSession() as session:
        cluster = DoubleCluster(api)
        labels = {MODEL_LABEL: "chat-m", "model.aibrix.ai/port": str(engine.port)}
        await cluster.put(a_pod("whole", "127.0.0.1", labels=labels))
        await cluster.put(a_pod("broken", "127.0.0.2", labels={MODEL_LABEL: "m", "model.aibrix.ai/port": "x"}))
        await cluster.put(a_pod("pending", None, ready=None, labels={MODEL_LABEL: "late"}, phase="Pending"))
        await cluster.put(a_pod("pending-2", None, ready=None, labels={MODEL_LABEL: "late"}, phase="Pending"))
        async with serving("--kubernetes", f"--kubeconfig={cluster.kubeconfig(tmp_path)}") as admin:
            health = await until_page(session, f"{admin}/readyz", ready=True, degraded=False)
            assert list(health["cluster"]["remarks"]) == ["Pod llm/broken"]
            assert 0 <= health["cluster"]["age_seconds"] < 60
            fleet = await page(session, f"{admin}/fleet")
            assert fleet["models"] == {"chat-m": [engine.address], "late": ["", ""]}
            await cluster.go_away()
            health = await until_page(session, f"{admin}/readyz", ready=True, degraded=True)
            assert "cannot be reached" in health["sources"]["kubernetes"]["error"]
            assert (await page(session, f"{admin}/fleet"))["models"] == fleet["models"]
            async with session.get(f"{admin}/metrics") as response:
                metrics = await response.text()
            assert 'aibrix_extproc_fleet_source_ok{source="kubernetes"} 0.0' in metrics
            assert 'aibrix_extproc_fleet_unusable{source="kubernetes"} 1.0' in metrics
            assert 'aibrix_extproc_fleet_age_seconds{source="kubernetes"}' in metrics
            assert 'aibrix_extproc_in_flight{endpoint=""}' not in metrics
            await cluster.come_back()
            await until_page(session, f"{admin}/readyz", ready=True, degraded=False)


def test_kubeconfig_that_does_not_exist_ends_the_start_with_one_clear_line(tmp_path: Path) -> None:
    command = warm.command("aibrix_extproc", "serve", "--kubernetes", f"--kubeconfig={tmp_path / 'none'}")
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert ended.stderr.splitlines() == [
        f"aibrix-extproc: the kubeconfig {tmp_path / 'none'} does not exist; correct --kubeconfig"
    ]


async def test_gateway_publishes_its_fleet_and_tells_how_that_goes(tmp_path: Path) -> None:
    async with KubeApiDouble() as api, aiohttp.ClientSession() as session:
        cluster = DoubleCluster(api)
        await cluster.put(a_service("engines", "http"))
        await cluster.put(a_pod("starting", "10.0.0.1", ready=False))
        await cluster.put(a_pod("local", "127.0.0.1", ready=False))
        options = ("--kubernetes", f"--kubeconfig={cluster.kubeconfig(tmp_path)}", "--publish-service=engines")
        async with serving(*options) as admin:
            found = await until(lambda: api.objects("endpointslices", "llm"))
            assert [one["addresses"] for one in found[0]["endpoints"]] == [["10.0.0.1"]]
            health = await until_page(session, f"{admin}/readyz", ready=True, degraded=False)
            assert (health["publisher"]["leads"], health["publisher"]["published"]) == (True, 1)
            assert "loopback" in health["publisher"]["remarks"]["llm/local"]
            async with session.get(f"{admin}/metrics") as response:
                metrics = await response.text()
            assert "aibrix_extproc_publisher_leads 1.0" in metrics
            assert "aibrix_extproc_published_endpoints 1.0" in metrics
            assert "aibrix_extproc_publisher_errors_total 0.0" in metrics
            api.denied = {"update endpointslices"}
            await cluster.put(a_pod("second", "10.0.0.2", ready=False))
            health = await until_page(session, f"{admin}/readyz", ready=True, degraded=True)
            assert "endpointslices.discovery.k8s.io in llm: not allowed; add to a Role" in health["publisher"]["error"]
        assert len(api.objects("endpointslices", "llm")) == 1  # what is published stays


async def test_gateway_that_is_told_to_end_gives_its_lease_back_before_it_drains(tmp_path: Path) -> None:
    def holder(api: KubeApiDouble) -> str:
        found = api.objects("leases", "llm")
        return str(found[0]["spec"]["holderIdentity"]) if found else "nobody yet"

    async with KubeApiDouble() as api:
        kubeconfig = DoubleCluster(api).kubeconfig(tmp_path)
        options = ("--kubernetes", f"--kubeconfig={kubeconfig}", "--publish-service=engines")
        async with started(*options, "--server-drain-notice-seconds=600") as (process, _):
            await until(lambda: "_" in holder(api), "the gateway holds the lease")
            process.terminate()
            await until(lambda: not holder(api), "the lease is given back")
            assert process.returncode is None


async def test_pod_whose_label_is_none_of_its_engines_models_serves_them_and_is_remarked(tmp_path: Path) -> None:
    async with KubeApiDouble() as api, FakeEngine("Qwen/Qwen3-8B") as engine, aiohttp.ClientSession() as session:
        base = {"id": "Qwen/Qwen3-8B", "max_model_len": 4096}
        names = [base, {"id": "qwen"}, *({"id": lora, "parent": "Qwen/Qwen3-8B"} for lora in ("sql", "law"))]
        engine.answers["/v1/models"] = 200, json.dumps({"data": names}).encode()
        cluster = DoubleCluster(api)
        labels = {MODEL_LABEL: "qwen3-8b", "model.aibrix.ai/port": str(engine.port)}
        await cluster.put(a_pod("one", "127.0.0.1", labels=labels))
        async with serving("--kubernetes", f"--kubeconfig={cluster.kubeconfig(tmp_path)}") as admin:
            await until_page(session, f"{admin}/readyz", ready=True, degraded=False)

            async def remarked() -> dict[str, Any] | None:
                fleet = await page(session, f"{admin}/fleet")
                return fleet if fleet["endpoints"][0]["remark"] else None

            fleet = await until(remarked, "the endpoint has a warning")
            assert set(fleet["models"]) == {"Qwen/Qwen3-8B", "qwen", "sql", "law"}
            assert "names 'qwen3-8b', which the engine does not list" in fleet["endpoints"][0]["remark"]
