"""HTTP itself: upgrades, HTTP/1.0, and the health path that load balancers ask."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.dataplane.engines import EngineSpec
from tests.dataplane.openai_error import assert_openai_error
from tests.dataplane.raw import Answer, conversation, send
from tests.dataplane.stack import METERED, Stack
from tests.waiting import eventually

CHAT: dict[str, Any] = {"model": "chat-m", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
ONE = (EngineSpec("one", ("m",)),)
UPGRADE = {"connection": "keep-alive, Upgrade", "upgrade": "websocket", "sec-websocket-version": "13",
           "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="}  # fmt: skip


def over_http_1_0(stack: Stack, body: dict[str, Any], path: str = "/v1/chat/completions") -> Answer:
    """As nginx asks unless it is told otherwise."""
    text = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.0\r\nhost: gateway\r\nconnection: close\r\ncontent-type: application/json\r\n"
    if stack.api_keys:
        head += f"authorization: Bearer {stack.api_keys[0]}\r\n"
    answer = conversation(stack.port, f"{head}content-length: {len(text)}\r\n\r\n".encode() + text)
    top, _, rest = answer.partition(b"\r\n\r\n")
    lines = top.decode().split("\r\n")
    pairs = tuple((name.lower(), value) for name, _, value in (line.partition(": ") for line in lines[1:]))
    return Answer(int(lines[0].split()[1]), pairs, rest)


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/realtime?model=m", "/v1/chat/completions", "/nowhere"])
@pytest.mark.parametrize("kind", ["websocket", "WebSocket", "TLS/1.0", "foo"])
def test_an_upgrade_is_a_426_that_says_what_to_do(stack: Stack, path: str, kind: str) -> None:
    answer = stack.send("GET", path, headers=UPGRADE | {"upgrade": kind})
    error = assert_openai_error(answer, 426, code="upgrade_refused")
    assert "plain HTTP" in error["message"]
    assert answer.header("upgrade") is None


def test_java_clients_that_offer_http_2_are_served(stack: Stack) -> None:
    offer = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2-settings": "AAEAAEAAAAIAAAAA"}
    assert stack.send("GET", "/v1/models", headers=offer).status == 200


def enable_websocket(configuration: dict[str, Any]) -> None:
    """As a gateway may be configured that we do not own."""
    manager = configuration["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    manager["upgrade_configs"] = [{"upgrade_type": "websocket"}]


@pytest.mark.slow
def test_where_envoy_lets_upgrades_through_they_are_refused_all_the_same(new_stack: Callable[..., Stack]) -> None:
    stack = new_stack(ONE, envoy_change=enable_websocket)
    answer = stack.send("GET", "/v1/responses", headers=UPGRADE)
    assert_openai_error(answer, 426, code="upgrade_refused")
    stack.worker.child.kill()
    eventually(lambda: stack.send("GET", "/v1/responses", headers=UPGRADE).status == 503, "Envoy answers alone")


def without_texts(configuration: dict[str, Any]) -> None:
    """As Envoy Gateway configures it: Envoy's own replies are Envoy's own words."""
    manager = configuration["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    del manager["local_reply_config"]


@pytest.mark.slow
def test_the_processor_alone_makes_an_upgrade_a_426(new_stack: Callable[..., Stack]) -> None:
    stack = new_stack(ONE, envoy_change=without_texts)
    assert_openai_error(stack.send("GET", "/v1/responses", headers=UPGRADE), 426, code="upgrade_refused")


@pytest.mark.slow
def test_without_a_processor_an_upgrade_is_a_426_of_envoys(new_stack: Callable[..., Stack]) -> None:
    stack = new_stack(ONE)
    stack.worker.child.kill()
    eventually(lambda: stack.send("GET", "/v1/models").status == 503, "Envoy answers alone")
    assert_openai_error(stack.send("GET", "/v1/responses", headers=UPGRADE), 426, code="upgrade_refused")


@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/chat/completions", CHAT | {"stream": True}),
     ("/v1/completions", {"model": "chat-m", "prompt": "a", "stream": True}),
     ("/v1/responses", {"model": "chat-m", "input": "a", "stream": True})],
    ids=["chat", "completion", "response"],
)  # fmt: skip
def test_a_stream_over_http_1_0_is_refused(stack: Stack, path: str, body: dict[str, Any]) -> None:
    error = assert_openai_error(over_http_1_0(stack, body, path), 426, code="stream_over_http_1_0", param="stream")
    assert "proxy_http_version 1.1" in error["message"]
    eventually(lambda: stack.worker.total("aibrix_extproc_in_flight") == 0, "the engine is given back")


def test_a_whole_answer_over_http_1_0_says_how_long_it_is(stack: Stack) -> None:
    answer = over_http_1_0(stack, CHAT)
    assert answer.status == 200
    assert answer.header("content-length") == str(len(answer.body))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_health_path_needs_no_key(stack: Stack, method: str) -> None:
    answer = send(stack.port, method, "/healthz")
    assert answer.status == 200
    assert answer.header("content-type") == "application/json"
    assert method == "HEAD" or answer.json() == {"status": "ok"}
    assert re.fullmatch(r"[0-9a-f-]{36}", answer.header("x-request-id") or "")


def test_other_paths_still_need_one_and_other_methods_are_no_health(stack: Stack) -> None:
    assert_openai_error(send(stack.port, "GET", "/healthz/x"), 401)
    assert_openai_error(send(stack.port, "POST", "/healthz", body=b""), 401)
    assert_openai_error(stack.send("POST", "/healthz", body=b""), 404)
    assert_openai_error(send(stack.port, "GET", "/v1/models"), 401)


@pytest.mark.slow
def test_health_is_red_while_nothing_can_be_served_and_green_again(new_stack: Callable[..., Stack]) -> None:
    stack = new_stack(ONE, api_keys=("sk-test-0123456789abcdef",), envoy_options=METERED)

    def status() -> int:
        return send(stack.port, "GET", "/healthz").status

    assert status() == 200
    stack.kill_engine("one")
    eventually(lambda: status() == 503, "no engine is ready")
    assert_openai_error(send(stack.port, "GET", "/healthz"), 503, code="no_engine_ready")
    stack.restart_engine("one")
    eventually(lambda: status() == 200, "the engine is back")
    stack.worker.child.kill()
    eventually(lambda: status() == 503, "the processor is dead")
    assert_openai_error(send(stack.port, "GET", "/healthz"), 503, code="gateway_unavailable")
    stack.restart_worker()
    eventually(lambda: status() == 200, "the processor is back")


@pytest.mark.slow
def test_the_health_path_is_a_setting(new_stack: Callable[..., Stack]) -> None:
    stack = new_stack(ONE, api_keys=("sk-test-0123456789abcdef",), serve_arguments=("--health-path", "/lb"))
    assert send(stack.port, "GET", "/lb").status == 200
    assert send(stack.port, "GET", "/healthz").status == 401
