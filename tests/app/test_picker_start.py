"""`picker` as a process beside an InferencePool: health on its own port, TLS, and a pick over a stream of pieces."""

import asyncio
import json
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from aibrix_extproc.adapters.extproc._generated.external_processor_pb2 import ProcessingRequest, ProcessingResponse
from tests import warm
from tests.adapters.extproc.streamed import CHAT, piece, request_body, request_head, set_headers
from tests.adapters.extproc.transports import SERVING, plain, secure, watch
from tests.adapters.kube.rig import DoubleCluster
from tests.fakes.engine import FakeEngine
from tests.fakes.kube_api import KubeApiDouble
from tests.kubeobjects import a_pod, a_pool

pytestmark = pytest.mark.slow

PROCESS = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"
OPTIONS = ("--grpc-port=0", "--grpc-health-port=0", "--metrics-port=0", "--zap-encoder=json", "--host=127.0.0.1")


@asynccontextmanager
async def picking(*options: str) -> AsyncIterator[dict[str, int]]:
    """A picker; yields its ports by purpose."""
    command = warm.command("aibrix_extproc", "picker", *OPTIONS, *options)
    process = await asyncio.create_subprocess_exec(*command, stderr=subprocess.PIPE, limit=1 << 20)
    assert process.stderr is not None
    try:
        async with asyncio.timeout(60):
            while (line := json.loads(await process.stderr.readline()))["message"] != "listening":
                pass
        reading = asyncio.ensure_future(process.stderr.read())
        yield {name: int(line[name].rpartition(":")[2]) for name in ("ext_proc", "health", "admin")}
    finally:
        process.kill()
        await process.wait()
    await reading


async def until_serving(port: int) -> None:
    async with asyncio.timeout(60), plain(port) as channel:
        statuses = watch(channel, "inference-extension")
        while await statuses.read() != SERVING:
            pass
        statuses.cancel()


async def picked(port: int) -> list[ProcessingResponse]:
    """What a data plane that does not say how it sends bodies hears of a chat completion."""
    certificate = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port))
    async with asyncio.timeout(60), secure(port, certificate.encode()) as channel:
        call = channel.stream_stream(
            PROCESS,
            request_serializer=ProcessingRequest.SerializeToString,
            response_deserializer=ProcessingResponse.FromString,
        )()
        for message in (request_head(), request_body(CHAT[:20]), request_body(CHAT[20:], end=True)):
            await call.write(message)
        answers = [await call.read(), await call.read()]
        call.cancel()
        return answers


async def test_picker_of_a_pool_picks_its_pods_over_tls(tmp_path: Path) -> None:
    async with KubeApiDouble() as api, FakeEngine("chat-m") as engine:
        cluster = DoubleCluster(api)
        await cluster.put(a_pool("pool", engine.port, selector={"app": "vllm"}))
        await cluster.put(a_pod("in-pool", "127.0.0.1", labels={"app": "vllm"}))
        await cluster.put(a_pod("other", "127.0.0.2", labels={"app": "other"}))
        options = ("--pool-name=pool", "--pool-namespace=llm", f"--kubeconfig={cluster.kubeconfig(tmp_path)}")
        async with picking(*options) as ports:
            await until_serving(ports["health"])
            head, body = await picked(ports["ext_proc"])
    assert set_headers(head)["x-gateway-destination-endpoint"] == engine.address
    assert piece(body) == (CHAT, True)


async def test_config_file_of_another_picker_is_said_not_to_be_read() -> None:
    command = warm.command("aibrix_extproc", "picker", *OPTIONS, "--secure-serving=false", "--config-file", "/nowhere")
    process = await asyncio.create_subprocess_exec(*command, stderr=subprocess.PIPE)
    async with asyncio.timeout(60):
        _, said = await process.communicate()
    assert process.returncode == 2
    assert b"--config-file is not read" in said
    assert b"no engines" in said
