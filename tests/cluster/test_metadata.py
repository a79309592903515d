"""Files and batches through a real Envoy Gateway, asked by the SDK: `try` with the component `metadata-volume`."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import openai
import pytest

from aibrix_extproc.core.openai.contract.headers import ON_BEHALF, SIGNED_CALLER
from aibrix_extproc.doctor.finding import Severity
from tests.cluster.batching import lines, started, until_whole
from tests.cluster.breaking import CORE, ENVOY_GATEWAY, changed, deleted
from tests.cluster.conftest import NAMESPACE, Cluster
from tests.cluster.node import PodLife
from tests.cluster.processors import no_processors, processors
from tests.cluster.test_clients import CHAT, asked
from tests.cluster.test_doctor import until_named
from tests.dataplane.openai_error import assert_openai_error
from tests.dataplane.raw import send
from tests.waiting import until

pytestmark = [pytest.mark.kubernetes, pytest.mark.slow, pytest.mark.asyncio(loop_scope="package")]

NAME: Final = "aibrix-extproc-metadata"
PORT: Final = 10080
API_PORT: Final = 9010
MIB: Final = 1024 * 1024
BUFFER: Final = 50 * MIB  # connection.bufferLimit of the ClientTrafficPolicy
LARGE: Final = 6 * BUFFER
FIELDS: Final = {"message", "type", "param", "code"}
DEPLOYMENT: Final = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{NAME}"
PROCESSORS: Final = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/aibrix-extproc"
ROUTE: Final = f"/apis/gateway.networking.k8s.io/v1/namespaces/{NAMESPACE}/httproutes/{NAME}"
E, W = Severity.ERROR, Severity.WARNING


def services(cluster: Cluster) -> list[PodLife]:
    return [life for life in cluster.node.lives.values() if life.app == NAME]


async def until_reached(cluster: Cluster) -> None:
    async def listed() -> bool:
        return (await asked("GET", "/v1/files")).status == 200

    await until(lambda: [life.ready for life in services(cluster)] == [True], seconds=60)
    await until(listed, seconds=30)


@contextlib.asynccontextmanager
async def no_service(cluster: Cluster) -> AsyncIterator[None]:
    """Nobody is behind the Service."""
    await cluster.admin.ask("PATCH", DEPLOYMENT, {"spec": {"replicas": 0}})
    try:
        await until(lambda: services(cluster) == [], seconds=30)
        yield
    finally:
        await cluster.admin.ask("PATCH", DEPLOYMENT, {"spec": {"replicas": 1}})
        await until_reached(cluster)


async def test_sdk_keeps_files_and_runs_a_batch_through_the_gateway(cluster: Cluster) -> None:
    await until_reached(cluster)
    client, content = cluster.openai, lines(2)
    file = await client.files.create(file=("日本.jsonl", content), purpose="batch")
    assert (await client.files.retrieve(file.id)).bytes == len(content)
    assert file.id in [one.id async for one in client.files.list()]
    assert (await client.files.content(file.id)).content == content
    batch = await until_whole(client, await started(client, 40), 40)
    assert batch.output_file_id in [one.id async for one in client.files.list()]
    assert (await client.files.delete(file.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await client.files.retrieve(file.id)


async def test_headers_that_speak_for_a_caller_are_our_processes_alone(cluster: Cluster) -> None:
    await until_reached(cluster)
    for forged in ("forged", "a.b.c.d"):
        listed = await asked("GET", "/v1/files", **{SIGNED_CALLER: forged})
        assert listed.status == 200, "the processor has put its own in the place"
        chat = await asked("POST", "/v1/chat/completions", CHAT, **{SIGNED_CALLER: forged})
        assert chat.json()["object"] == "chat.completion"
        assert_openai_error(await asked("GET", "/v1/files", **{ON_BEHALF: forged}), 401)
    async with no_processors(cluster):
        refused = await asked("GET", "/v1/files", **{SIGNED_CALLER: "forged"})
        assert_openai_error(refused, 503, code="gateway_unavailable")
    (life,) = services(cluster)
    for headers in ({}, {SIGNED_CALLER: "forged"}):
        url = f"http://{life.ip}:{API_PORT}/v1/files"
        async with cluster.session.get(url, headers=headers) as answer:
            refusal = (await answer.json())["error"]
            assert (answer.status, refusal["type"], set(refusal)) == (401, "invalid_request_error", FIELDS)


def form(size: int) -> Iterator[bytes]:
    """A file of zeros as an SDK would send it."""
    yield (
        b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n'
        b'--b\r\ncontent-disposition: form-data; name="file"; filename="z"\r\n\r\n'
    )
    piece = bytes(MIB)
    for _ in range(size // MIB):
        yield piece
    yield b"\r\n--b--\r\n"


async def memory(cluster: Cluster) -> int:
    """What Envoy has allocated."""
    async with cluster.session.get("http://127.0.0.1:19000/memory") as answer:
        return int((await answer.json())["allocated"])


async def test_large_file_streams_through_envoy_past_the_processors(cluster: Cluster) -> None:
    """Envoy reads ahead while the processor looks at the head, and holds its buffer's limit at most."""
    await until_reached(cluster)
    await asked("GET", "/v1/files")
    before, most = await memory(cluster), 0
    headers = {"content-type": "multipart/form-data; boundary=b"}
    sending = asyncio.create_task(asyncio.to_thread(send, PORT, "POST", "/v1/files", headers, form(LARGE)))
    while not sending.done():
        most = max(most, await memory(cluster))
        await asyncio.sleep(0.05)
    answer = await sending
    assert answer.status == 200, answer.body
    assert answer.json()["bytes"] == LARGE
    assert most - before < BUFFER * 1.2
    content = await asked("GET", f"/v1/files/{answer.json()['id']}/content", range="bytes=-3")
    assert (content.status, content.body) == (206, bytes(3))
    assert (await asked("DELETE", f"/v1/files/{answer.json()['id']}")).status == 200


async def test_large_file_waits_for_processors_that_are_slow_to_answer_for_its_head(cluster: Cluster) -> None:
    """Envoy stops to read at its buffer's limit. Over the Gateway's own policy, which holds bodies, that is a 413."""
    await until_reached(cluster)
    await asked("GET", "/v1/files")
    headers = {"content-type": "multipart/form-data; boundary=b"}
    before = await pauses(cluster)
    with frozen_processors(cluster):
        sending = asyncio.create_task(asyncio.to_thread(send, PORT, "POST", "/v1/files", headers, form(LARGE)))

        async def waits() -> bool:
            return sending.done() or await pauses(cluster) > before

        await until(waits, seconds=4)
        assert not sending.done()
    answer = await sending
    assert (answer.status, answer.json()["bytes"]) == (200, LARGE), answer.body
    assert (await asked("DELETE", f"/v1/files/{answer.json()['id']}")).status == 200


@contextlib.contextmanager
def frozen_processors(cluster: Cluster) -> Iterator[None]:
    running = [life.process for life in processors(cluster) if life.process is not None]
    for one in running:
        one.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for one in running:
            one.send_signal(signal.SIGCONT)


async def pauses(cluster: Cluster) -> int:
    """How often Envoy has stopped to read from a client."""
    url = "http://127.0.0.1:19000/stats?filter=http.*downstream_flow_control_paused_reading_total"
    async with cluster.session.get(url) as answer:
        return sum(int(line.rpartition(": ")[2]) for line in (await answer.text()).splitlines())


def found(dumped: Any, name: str) -> Iterator[dict[str, Any]]:
    """Every object of that name, wherever in Envoy's configuration."""
    if isinstance(dumped, dict) and dumped.get("name") == name:
        yield dumped
    for one in dumped.values() if isinstance(dumped, dict) else dumped if isinstance(dumped, list) else ():
        yield from found(one, name)


async def test_envoy_was_told_to_bound_and_to_repeat_nothing_on_the_way(cluster: Cluster) -> None:
    async with cluster.session.get("http://127.0.0.1:19000/config_dump") as answer:
        dumped = await answer.json()
    for match in range(3):
        (route,) = found(dumped, f"httproute/{NAMESPACE}/{NAME}/rule/0/match/{match}/*")
        assert [one["name"] for one in route["match"]["headers"]] == [SIGNED_CALLER]
        assert route["route"]["timeout"] == "0s"
        assert "retry_policy" not in route["route"]
        assert "envoy.filters.http.buffer" not in route.get("typed_per_filter_config", {})
    (backend,) = found(dumped, f"httproute/{NAMESPACE}/{NAME}/rule/0")
    assert backend["per_connection_buffer_limit_bytes"] == MIB
    assert backend["connect_timeout"] == "1s"


async def test_files_outlive_the_service_and_without_it_are_a_503_that_sdks_can_read(cluster: Cluster) -> None:
    await until_reached(cluster)
    file = await cluster.openai.files.create(file=("kept", b"kept"), purpose="user_data")
    async with no_service(cluster):
        for method, path in (("GET", "/v1/files"), ("GET", "/v1/batches"), ("POST", "/v1/uploads")):
            answer = await asked(method, path, {} if method == "POST" else None)
            assert_openai_error(answer, 503, code="storage_unavailable")
        with pytest.raises(openai.InternalServerError):
            await cluster.openai.files.create(file=("new", b"new"), purpose="user_data")
        assert (await asked("POST", "/v1/chat/completions", CHAT)).status == 200
        await until_named(cluster, {(E, "ready", f"Deployment {NAMESPACE}/{NAME}")})
    assert (await cluster.openai.files.content(file.id)).content == b"kept"
    await until_named(cluster, set())


async def test_processors_that_hand_nothing_over_answer_404(cluster: Cluster) -> None:
    def off(deployment: dict[str, Any]) -> None:
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        (one,) = [one for one in container["env"] if one["name"] == "AIBRIX_EXTPROC_METADATA__ENABLED"]
        one["value"] = "false"

    async def unknown() -> bool:
        return (await asked("GET", "/v1/files")).status == 404

    await until_reached(cluster)
    async with changed(cluster.admin, PROCESSORS, off):
        await until(unknown, seconds=60)
        for method, path in (("GET", "/v1/files"), ("POST", "/v1/batches"), ("POST", "/v1/uploads")):

            async def refused(method: str = method, path: str = path) -> bool:  # the last one of the old may answer
                answer = await asked(method, path, {} if method == "POST" else None)
                if answer.status == 404:
                    assert_openai_error(answer, 404)
                return answer.status == 404

            await until(refused, seconds=30)
        await until_named(cluster, {(E, "handed_over", f"Deployment {NAMESPACE}/aibrix-extproc")})
    await until_reached(cluster)


async def test_doctor_names_what_is_broken_on_the_way(cluster: Cluster) -> None:
    def elsewhere(service: dict[str, Any]) -> None:
        service["spec"]["selector"] = {"app": "other"}

    async with deleted(cluster.admin, ROUTE):
        found = await until_named(cluster, {(E, "handed_over", f"Gateway {NAMESPACE}/aibrix-extproc")})
        assert "503" in found[0].notice
        assert_openai_error(await asked("GET", "/v1/files"), 503)
    async with deleted(cluster.admin, f"{ENVOY_GATEWAY}/backendtrafficpolicies/{NAME}"):
        await until_named(cluster, {(W, "streamed", f"HTTPRoute {NAMESPACE}/{NAME}")})
    async with changed(cluster.admin, f"{CORE}/services/{NAME}", elsewhere):
        await until_named(cluster, {(E, "served", f"HTTPRoute {NAMESPACE}/{NAME}")})
        assert_openai_error(await asked("GET", "/v1/files"), 503, code="storage_unavailable")
    await until_named(cluster, set())
    await until_reached(cluster)
    assert len(processors(cluster)) == 2
