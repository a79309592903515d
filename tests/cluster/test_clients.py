"""What clients of every kind get through a real Envoy Gateway: Anthropic's paths, old HTTP, upgrades, web pages."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import pytest

from aibrix_extproc.core.openai.contract.headers import RESERVED_REQUEST_HEADERS
from aibrix_extproc.core.openai.wire.cors import preflight_headers, response_headers
from tests.cluster.asking import engine
from tests.cluster.conftest import Cluster
from tests.cluster.processors import no_processors
from tests.dataplane.openai_error import assert_openai_error
from tests.dataplane.raw import JSON, Answer, conversation, send
from tests.dataplane.test_anthropic_errors import assert_anthropic_error
from tests.dataplane.test_protocols import UPGRADE
from tests.waiting import until

pytestmark = [pytest.mark.kubernetes, pytest.mark.slow, pytest.mark.asyncio(loop_scope="package")]

PORT: Final = 10080
CHAT: Final[dict[str, Any]] = {"model": "sim-chat", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
PAGE: Final = "https://page.example"
PREFLIGHT: Final = {
    "origin": PAGE,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,x-stainless-os",
}


async def asked(method: str, path: str, body: object = None, **headers: str) -> Answer:
    """One request on a connection of its own; underscores in names of headers stand for dashes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    content = None if body is None else json.dumps(body).encode()
    return await asyncio.to_thread(send, PORT, method, path, named | (JSON if body is not None else {}), content)


def events(answer: Answer) -> Iterator[dict[str, Any]]:
    for line in answer.body.decode().splitlines():
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages?beta=true"])
async def test_messages_are_answered_whole_and_streamed(cluster: Cluster, path: str) -> None:
    whole = await asked("POST", path, CHAT)
    assert whole.status == 200
    said = whole.json()
    assert (said["type"], said["role"], said["usage"]["output_tokens"]) == ("message", "assistant", 5)
    streamed = await asked("POST", path, CHAT | {"stream": True})
    assert (streamed.header("content-type") or "").startswith("text/event-stream")
    found = list(events(streamed))
    assert (found[0]["type"], found[-1]["type"]) == ("message_start", "message_stop")
    text = "".join(one["delta"].get("text", "") for one in found if one["type"] == "content_block_delta")
    assert text == said["content"][0]["text"]
    counted = await asked("POST", "/v1/messages/count_tokens", CHAT)
    assert counted.json()["input_tokens"] == said["usage"]["input_tokens"]


async def test_errors_below_messages_are_anthropics_and_beside_it_openais(cluster: Cluster) -> None:
    missing = await asked("POST", "/v1/messages", CHAT | {"model": "nobody"})
    assert_anthropic_error(missing, 404, "not_found_error")
    assert_anthropic_error(await asked("GET", "/v1/messages"), 405, "invalid_request_error")
    assert_anthropic_error(await asked("POST", "/v1/messages/nope", CHAT), 404, "not_found_error")
    assert_openai_error(await asked("POST", "/v1/messagesx", CHAT), 404)


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/realtime?model=sim-chat", "/nowhere"])
@pytest.mark.parametrize("kind", ["websocket", "foo"])
async def test_upgrade_is_a_426(cluster: Cluster, path: str, kind: str) -> None:
    answer = await asked("GET", path, **UPGRADE | {"upgrade": kind})
    assert_openai_error(answer, 426, code="upgrade_refused")
    assert answer.header("upgrade") is None


async def over_http_1_0(path: str, body: object) -> tuple[int, dict[str, Any]]:
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.0\r\nhost: gateway\r\ncontent-type: application/json\r\n"
    request = f"{head}content-length: {len(content)}\r\n\r\n".encode() + content
    top, _, rest = (await asyncio.to_thread(conversation, PORT, request)).partition(b"\r\n\r\n")
    return int(top.split()[1]), json.loads(rest)


async def test_streams_over_http_1_0_are_refused_and_whole_answers_are_served(cluster: Cluster) -> None:
    status, said = await over_http_1_0("/v1/chat/completions", CHAT | {"stream": True})
    assert (status, said["error"]["code"], said["error"]["param"]) == (426, "stream_over_http_1_0", "stream")
    status, said = await over_http_1_0("/v1/messages", CHAT | {"stream": True})
    assert (status, said["error"]["type"]) == (426, "invalid_request_error")
    status, said = await over_http_1_0("/v1/chat/completions", CHAT)
    assert (status, said["object"]) == (200, "chat.completion")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/messages/count_tokens"])
async def test_preflight_is_answered(cluster: Cluster, path: str) -> None:
    answer = await asked("OPTIONS", path, **PREFLIGHT)
    assert answer.status == 204
    assert dict(preflight_headers(PREFLIGHT)).items() <= dict(answer.headers).items()


async def test_page_may_read_answers_and_errors(cluster: Cluster) -> None:
    for model, status in (("sim-chat", 200), ("nobody", 404)):
        answer = await asked("POST", "/v1/chat/completions", CHAT | {"model": model}, origin=PAGE)
        assert answer.status == status
        assert dict(response_headers(PAGE)).items() <= dict(answer.headers).items()


async def test_what_only_the_gateway_may_set_never_comes_from_a_client(cluster: Cluster) -> None:
    others = ("x-envoy-retry-on", "x-envoy-upstream-rq-timeout-ms", "x-envoy-original-path", "x-request-id")
    kept = {"x-mine": "yes", "x_under": "scored"}
    async with engine(cluster, "looks", "model-looks") as looks:
        forged = dict.fromkeys((*RESERVED_REQUEST_HEADERS, *others), "forged")
        content = json.dumps(CHAT | {"model": "model-looks"}).encode()
        path = "/v1/chat/completions"
        answer = await asyncio.to_thread(send, PORT, "POST", path, forged | kept | JSON, content)
        assert answer.status == 200
        async with cluster.session.get(f"http://{looks.ip}:8000/sim/requests?path=/v1/chat") as response:
            headers = (await response.json())["requests"][-1]["headers"]
    seen = {name.lower(): value for name, value in headers}
    assert [name for name, value in seen.items() if value == "forged"] == []
    assert kept.items() <= seen.items()
    assert answer.header("x-request-id") == seen["x-request-id"]


@contextlib.asynccontextmanager
async def no_engine_ready(cluster: Cluster) -> AsyncIterator[None]:
    lives = [life for life in cluster.node.lives.values() if life.name.startswith("sim-")]
    names = {life.name for life in lives}
    cluster.node.held.update(names)
    try:
        await until(lambda: {life.ready for life in lives} == {False})
        yield
    finally:
        cluster.node.held.difference_update(names)
        await until(lambda: {life.ready for life in lives} == {True}, seconds=30)


async def test_health_is_green_and_red_with_the_engines(cluster: Cluster) -> None:
    async def status() -> int:
        return (await asked("GET", "/healthz")).status

    async def green() -> bool:
        return await status() == 200

    async def red() -> bool:
        return await status() == 503

    assert (await asked("GET", "/healthz")).json() == {"status": "ok"}
    assert (await asked("HEAD", "/healthz")).status == 200
    assert_openai_error(await asked("POST", "/healthz", {}), 404)
    async with no_engine_ready(cluster):
        await until(red)
        assert_openai_error(await asked("GET", "/healthz"), 503, code="no_engine_ready")
    await until(green)


async def test_without_a_processor_clients_of_all_kinds_can_read_what_they_get(cluster: Cluster) -> None:
    async with no_processors(cluster):
        for method in ("GET", "HEAD"):
            assert (await asked(method, "/healthz")).status == 503
        assert_openai_error(await asked("GET", "/healthz"), 503, code="gateway_unavailable")
        for path in ("/v1/messages", "/v1/messages/count_tokens", "/v1/messages?beta=true"):
            refusal = await asked("POST", path, CHAT, origin=PAGE)
            assert_anthropic_error(refusal, 503, "overloaded_error")
            assert dict(response_headers(PAGE)).items() <= dict(refusal.headers).items()
            preflight = await asked("OPTIONS", path, **PREFLIGHT)
            assert preflight.status == 204
            assert dict(preflight_headers(PREFLIGHT)).items() <= dict(preflight.headers).items()
        refusal = await asked("POST", "/v1/chat/completions", CHAT)
        assert_openai_error(refusal, 503, code="gateway_unavailable")
        assert refusal.header("access-control-allow-origin") is None  # nobody has asked
        status, said = await over_http_1_0("/v1/chat/completions", CHAT | {"stream": True})
        assert (status, said["error"]["code"]) == (503, "gateway_unavailable")
        bare = await asked("GET", "/v1/responses", **UPGRADE)  # the one refusal that Envoy Gateway leaves to Envoy
        assert (bare.status, bare.body) == (403, b"")
