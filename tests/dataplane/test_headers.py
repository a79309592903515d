"""Acceptance 7.1, headers: what every answer carries, and what stays on either side."""

import http.client
import json
import re
import socket
import uuid

import openai
import pytest

from tests.dataplane.engines import Engine, header
from tests.dataplane.raw import JSON, conversation, exchange, send
from tests.dataplane.stack import Stack

HELLO = [{"role": "user", "content": "hello"}]
CHAT = {"model": "chat-m", "messages": HELLO, "max_tokens": 4}


def test_hdr_01_request_id_is_set_and_unique(client: openai.OpenAI) -> None:
    seen = set()
    for _ in range(5):
        raw = client.chat.completions.with_raw_response.create(model="chat-m", messages=HELLO)
        completion = raw.parse()
        assert completion._request_id
        assert completion._request_id == raw.headers["x-request-id"]
        seen.add(completion._request_id)
    assert len(seen) == 5


@pytest.mark.parametrize("name", ["x-request-id", "x-client-request-id"])
def test_hdr_02_a_clients_request_id_gives_no_second_header(stack: Stack, name: str) -> None:
    answers = [stack.post("/v1/chat/completions", CHAT, **{name: "abc"}) for _ in range(2)]
    ids = {answer.header("x-request-id") for answer in answers}
    assert len(ids) == 2  # ours, not the client's: two requests never share one
    assert "abc" not in ids


def test_hdr_02_the_engine_gets_the_id_that_the_client_sees_and_the_number_of_the_attempt(stack: Stack) -> None:
    marker = str(uuid.uuid4())
    answer = stack.post("/v1/chat/completions", CHAT, x_marker=marker, x_request_id="abc")
    (seen,) = [found for engine in stack.engines_of("chat-m") if (found := engine.request(marker))]
    assert header(seen, "x-request-id") == f"{answer.header('x-request-id')}-1"


@pytest.mark.parametrize("answering", [True, False], ids=["success", "error"])
def test_hdr_02_no_two_attempts_share_an_id_and_the_client_sees_the_requests(
    stack: Stack, chat_engines: list[Engine], answering: bool
) -> None:
    marker = str(uuid.uuid4())
    for engine in chat_engines:
        engine.fail("status", code=503, count=1 if answering else None)
    answer = stack.post("/v1/chat/completions", CHAT, x_marker=marker)
    assert answer.status == (200 if answering else 503)
    found = [one for engine in chat_engines for one in engine.requests() if header(one, "x-marker") == marker]
    attempts = range(1, 4 if answering else 5)
    assert {header(one, "x-request-id") for one in found} == {f"{answer.header('x-request-id')}-{n}" for n in attempts}


def test_hdr_02_whoever_answers_gives_one_id_a_uuid(stack: Stack) -> None:
    key = {"authorization": f"Bearer {stack.api_keys[0]}"}
    answers = {
        "engine": stack.post("/v1/chat/completions", CHAT),
        "engine's error": stack.post("/v1/chat/completions", CHAT, x_sim_fault="status;code=400"),
        "stream": stack.post("/v1/chat/completions", CHAT | {"stream": True}),
        "gateway": stack.send("GET", "/v1/models"),
        "refusal": stack.send("GET", "/v1/nope"),
        "preflight": stack.send("OPTIONS", "/v1/models"),
        "too large": send(stack.port, "POST", "/v1/chat/completions", {**key, **JSON, "content-length": "999999999"}),
        "no request": send(stack.port, "GET", "/v1/models", {**key, "x-long": "a" * 100_000}),
    }
    ids = {who: str(answer.header("x-request-id")) for who, answer in answers.items()}
    assert [who for who, found in ids.items() if str(uuid.UUID(found)) != found] == []
    assert len(set(ids.values())) == len(ids)


def test_hdr_03_processing_time_and_version_are_present(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="chat-m", messages=HELLO)
    assert re.fullmatch(r"\d+", raw.headers["openai-processing-ms"])
    assert raw.headers["openai-version"] == "2020-10-01"
    assert "server" not in raw.headers
    assert not [name for name in raw.headers if name.startswith("x-envoy")]


def test_hdr_05_streams_carry_the_request_id_before_the_first_chunk(client: openai.OpenAI) -> None:
    with client.chat.completions.create(model="chat-m", messages=HELLO, stream=True) as stream:
        headers = stream.response.headers
        assert headers["x-request-id"]
        assert headers["content-type"].startswith("text/event-stream")
        assert headers["cache-control"] == "no-cache"
        assert headers["x-accel-buffering"] == "no"
        assert list(stream)


def test_hdr_06_engine_controls_are_stripped_both_ways(stack: Stack) -> None:
    marker = str(uuid.uuid4())
    controls = {"x-vllm-priority": "-5", "x-data-parallel-rank": "1", "endpoint-load-metrics-format": "TEXT"}
    answer = stack.post("/v1/chat/completions", CHAT, x_marker=marker, **controls)
    assert answer.status == 200
    assert answer.header("endpoint-load-metrics") is None
    (seen,) = [found for engine in stack.engines_of("chat-m") if (found := engine.request(marker))]
    assert not [name for name in controls if header(seen, name)]


def test_hdr_07_organization_and_project_are_accepted_and_kept(stack: Stack) -> None:
    marker = str(uuid.uuid4())
    with stack.client(organization="org-x", project="proj-x") as client:
        client.chat.completions.create(model="chat-m", messages=HELLO, extra_headers={"x-marker": marker})
    (seen,) = [found for engine in stack.engines_of("chat-m") if (found := engine.request(marker))]
    assert header(seen, "openai-organization") is None
    assert header(seen, "openai-project") is None


def test_hdr_08_many_headers_and_a_long_one_pass(stack: Stack) -> None:
    many = {f"x-custom-{number}": "v" * 20 for number in range(80)}
    assert stack.post("/v1/chat/completions", CHAT, **many).status == 200
    assert stack.post("/v1/chat/completions", CHAT, x_long="v" * 16_384).status == 200


def test_hdr_09_http_1_0_is_served(stack: Stack) -> None:
    body = json.dumps(CHAT).encode()
    head = f"POST /v1/chat/completions HTTP/1.0\r\nauthorization: Bearer {stack.api_keys[0]}\r\n"
    head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    answer = conversation(stack.port, head.encode() + body)
    assert re.match(rb"HTTP/1\.[01] 200 ", answer), answer[:200]
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["object"] == "chat.completion"


@pytest.mark.slow
def test_hdr_09_one_connection_serves_a_hundred_requests_and_streams(stack: Stack) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=60.0)
    connection.connect()
    first: socket.socket = connection.sock
    headers = {**JSON, "authorization": f"Bearer {stack.api_keys[0]}"}
    for number in range(100):
        body = json.dumps({**CHAT, "stream": number % 2 == 0}).encode()
        answer = exchange(connection, "POST", "/v1/chat/completions", headers, body)
        assert answer.status == 200
        assert answer.body.endswith(b"data: [DONE]\n\n") == (number % 2 == 0)
    assert connection.sock is first
    connection.close()


async def test_hdr_09_the_async_sdk_reuses_its_connection_after_done(stack: Stack) -> None:
    async with stack.async_client() as client:
        before = stack.envoy_stats(r"^http\.openai\.downstream_cx_total$")
        for _ in range(5):
            stream = await client.chat.completions.create(model="chat-m", messages=HELLO, stream=True)
            chunks = [chunk async for chunk in stream]
            assert chunks[-1].choices[0].finish_reason
        after = stack.envoy_stats(r"^http\.openai\.downstream_cx_total$")
    assert sum(after.values()) - sum(before.values()) == 1
