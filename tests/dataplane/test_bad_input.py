"""Input that is broken or hostile: an answer in OpenAI's shape, nothing leaks, nothing is left behind."""

import json
import socket
import uuid
from typing import Any

import pytest

from tests.dataplane.openai_error import assert_openai_error
from tests.dataplane.raw import JSON, conversation, send
from tests.dataplane.stack import Stack
from tests.waiting import eventually

PATH = "/v1/chat/completions"
CHAT: dict[str, Any] = {"model": "chat-m", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
FORGED = "x-gateway-destination-endpoint"


def idle(stack: Stack) -> bool:
    """Nothing is counted as running anywhere."""
    streams = json.loads(stack.worker.admin("/readyz").body)["streams"]
    return streams == 0 and stack.worker.total("aibrix_extproc_in_flight") == 0


def test_a_header_of_a_megabyte_is_a_431(stack: Stack) -> None:
    answer = stack.send("POST", PATH, json.dumps(CHAT).encode(), JSON | {"x-long": "a" * 1_000_000})
    assert_openai_error(answer, 431, code="headers_too_large")


def test_a_thousand_headers_are_refused_in_shape(stack: Stack) -> None:
    many = {f"x-{number}": "v" for number in range(1000)}
    assert_openai_error(stack.send("POST", PATH, json.dumps(CHAT).encode(), JSON | many), 431)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [(b"nonsense\r\n\r\n", 400), (b"GET / HTTP/1.1\r\n\r\n", 400), (b"GET /\x00 HTTP/1.1\r\nhost: x\r\n\r\n", 400),
     (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n", 400),
     (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n", 400),
     (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabc", 400)],
    ids=["nonsense", "no-host", "nul", "two-framings", "negative-length", "two-lengths"],
)  # fmt: skip
def test_what_is_no_http_is_refused_in_shape_or_cut(stack: Stack, request_bytes: bytes, status: int) -> None:
    head, _, body = conversation(stack.port, request_bytes).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), head
    assert b"content-type: application/json" in head.lower()
    assert b"x-request-id: " in head.lower()
    assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    "body",
    [b"zz\r\n{}\r\n0\r\n\r\n", b"-1\r\n", b"fffffffffffffffff\r\n"],
    ids=["no-number", "negative", "too-large"],
)
def test_a_broken_chunk_ends_the_connection_and_leaves_nothing_behind(stack: Stack, body: bytes) -> None:
    """Envoy closes the connection before its 400 has passed our processor; an answer there is must be in shape."""
    head = b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    said = conversation(stack.port, head % PATH.encode() + body)
    if said:
        assert said.startswith(b"HTTP/1.1 400 ")
        assert set(json.loads(said.partition(b"\r\n\r\n")[2])["error"]) == {"message", "type", "param", "code"}
    eventually(lambda: idle(stack), "nothing of it is left")


@pytest.mark.parametrize("name", [FORGED, FORGED.upper(), "X-Gateway-Destination-Endpoint"])
@pytest.mark.parametrize("target", ["other engine", "admin", "own engine", "nonsense"])
def test_a_forged_destination_is_ignored(stack: Stack, name: str, target: str) -> None:
    marker = str(uuid.uuid4())
    address = {
        "other engine": stack.engine("emb").address,
        "admin": f"127.0.0.1:{stack.worker.admin_port}",
        "own engine": stack.engine("chat-1").address,
        "nonsense": "not an address",
    }[target]
    headers = JSON | {name: address, "x-marker": marker}
    answer = stack.send("POST", PATH, json.dumps(CHAT).encode(), headers)
    assert (answer.status, answer.json()["object"]) == (200, "chat.completion")
    assert answer.header(FORGED) is None
    assert len([engine for engine in stack.engines_of("chat-m") if engine.request(marker)]) == 1


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/metrics"), ("GET", "/sim/requests"), ("GET", "/fleet"), ("POST", "/v1/nope")]
)
@pytest.mark.parametrize("port", ["engine", "admin", "envoy admin"])
def test_a_forged_destination_reaches_nothing(stack: Stack, method: str, path: str, port: str) -> None:
    number = {
        "engine": stack.engine("chat-1").port, "admin": stack.worker.admin_port, "envoy admin": stack.envoy_admin_port
    }[port]  # fmt: skip
    headers = {FORGED: f"127.0.0.1:{number}", "x-gateway-model-name": "chat-m", "target-pod": f"127.0.0.1:{number}"}
    answer = stack.send(method, path, b"" if method == "POST" else None, headers)
    assert_openai_error(answer, 404)


def test_a_forged_destination_survives_no_trick_with_connection_headers(stack: Stack) -> None:
    address = stack.engine("emb").address
    headers = {FORGED: address, "connection": f"close, {FORGED}", "x-envoy-original-path": "/metrics"}
    answer = stack.send("GET", "/metrics", headers=headers)
    assert_openai_error(answer, 404)


def test_envoys_own_request_headers_are_not_obeyed(stack: Stack) -> None:
    orders = {"x-envoy-upstream-rq-timeout-ms": "1", "x-envoy-max-retries": "50", "x-envoy-force-trace": "true"}
    answer = stack.send("POST", PATH, json.dumps(CHAT).encode(), JSON | orders | {"x-sim-itl-ms": "10"})
    assert answer.status == 200


def test_an_unknown_strategy_is_named(stack: Stack) -> None:
    answer = stack.post(PATH, CHAT, routing_strategy="no-such")
    assert_openai_error(answer, 400, code="invalid_value", param="routing-strategy", contains="'least-request'")


@pytest.mark.parametrize("strategy", ["least-request", "random", "round-robin", "Round-Robin"])
def test_a_known_strategy_is_obeyed_and_not_forwarded(stack: Stack, strategy: str) -> None:
    marker = str(uuid.uuid4())
    assert stack.post(PATH, CHAT, routing_strategy=strategy, x_marker=marker).status == 200
    (seen,) = [found for engine in stack.engines_of("chat-m") if (found := engine.request(marker))]
    assert "routing-strategy" not in {name.lower() for name, _ in seen["headers"]}


@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_a_client_that_goes_in_mid_request_leaves_nothing_behind(stack: Stack, framing: str) -> None:
    eventually(lambda: idle(stack), "earlier exchanges have ended")
    before = stack.worker.total("aibrix_extproc_exchanges_total", outcome="cancelled")
    head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {stack.api_keys[0]}\r\n"
    head += "content-type: application/json\r\n"
    head += "content-length: 1000\r\n\r\n" if framing == "length" else "transfer-encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", stack.port), timeout=60.0) as wire:
        wire.sendall(head.encode() + (b'{"model":' if framing == "length" else b'9\r\n{"model":\r\n'))
        eventually(lambda: not idle(stack), "the exchange has begun")
    eventually(lambda: idle(stack), "the exchange has ended")
    after = stack.worker.total("aibrix_extproc_exchanges_total", outcome="cancelled")
    assert after - before == 1


def test_errors_name_the_path_without_its_query(stack: Stack) -> None:
    answer = stack.send("GET", "/v1/nope?api_key=sk-secret&x=<script>")
    assert_openai_error(answer, 404)
    assert b"sk-secret" not in answer.body


def test_a_hostile_path_or_model_is_quoted_harmlessly(stack: Stack) -> None:
    name = 'x"}},{"\u2028\x00<script>' + "y" * 5000
    error = assert_openai_error(stack.post(PATH, CHAT | {"model": name}), 404, code="model_not_found")
    assert len(error["message"]) < 1000
    assert_openai_error(stack.send("GET", "/v1/" + "y" * 5000), 404)


def test_no_body_at_all_on_a_post_is_malformed(stack: Stack) -> None:
    answer = send(stack.port, "POST", PATH, JSON | {"authorization": f"Bearer {stack.api_keys[0]}"})
    assert_openai_error(answer, 400, contains="could not parse the JSON")
