"""Acceptance 7.1, keys: authentication comes first, and no key of a client reaches an engine."""

import http.client
import json
import uuid

import openai
import pytest

from tests.dataplane.conftest import KEY
from tests.dataplane.engines import ENGINE_KEY, header
from tests.dataplane.openai_error import assert_openai_error
from tests.dataplane.raw import JSON, send
from tests.dataplane.stack import Stack

HELLO = [{"role": "user", "content": "hello"}]
REQUESTS = r"^http\.openai\.downstream_rq_total$"
BAD = "sk-wrong-0123456789abcdefghij"


def test_auth_01_no_authorization_is_a_401_that_says_how(stack: Stack) -> None:
    error = assert_openai_error(send(stack.port, "GET", "/v1/models"), 401, code=None)
    assert error["type"] == "invalid_request_error"
    assert error["message"].startswith("You didn't provide an API key")


def test_auth_02_wrong_key_raises_authentication_error_after_one_call(stack: Stack) -> None:
    before = stack.envoy_stats(REQUESTS)
    with pytest.raises(openai.AuthenticationError) as caught, stack.client(api_key=BAD, max_retries=2) as client:
        client.models.list()
    assert caught.value.code == "invalid_api_key"
    error = assert_openai_error(caught.value, 401, contains="Incorrect API key")
    assert BAD not in error["message"]
    assert "***" in error["message"]
    assert sum(stack.envoy_stats(REQUESTS).values()) - sum(before.values()) == 1


@pytest.mark.parametrize(
    ("value", "status"),
    [(f"Bearer {KEY}", 200), (f"bearer {KEY}", 200), (f"Bearer   {KEY}  ", 200), ("Basic eDp5", 401), ("Bearer", 401),
     (KEY, 401), ("", 401)],
    ids=["bearer", "lower-case", "spaces", "basic", "no-key", "no-scheme", "empty"],
)  # fmt: skip
def test_auth_03_authorization_header_forms(stack: Stack, value: str, status: int) -> None:
    answer = send(stack.port, "GET", "/v1/models", {"authorization": value})
    assert answer.status == status
    if status == 401:
        assert_openai_error(answer, 401)


@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/nope"), ("POST", "/v1/chat/completions"), ("GET", "/x")])
def test_auth_04_a_bad_key_wins_over_unknown_url_and_model(stack: Stack, method: str, path: str) -> None:
    headers = {**JSON, "authorization": f"Bearer {BAD}"}
    body = json.dumps({"model": "nope", "messages": HELLO}).encode()
    assert_openai_error(send(stack.port, method, path, headers, body), 401, code="invalid_api_key")


def test_auth_05_a_bad_key_is_refused_before_the_body_is_read(stack: Stack) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=60.0)
    connection.putrequest("POST", "/v1/chat/completions")
    for name, value in {**JSON, "authorization": f"Bearer {BAD}", "content-length": "20000000"}.items():
        connection.putheader(name, value)
    connection.endheaders()  # not one byte of the body is sent
    response = connection.getresponse()
    assert response.status == 401
    assert json.loads(response.read())["error"]["code"] == "invalid_api_key"
    connection.close()


def test_auth_08_messages_takes_the_key_from_x_api_key(stack: Stack) -> None:
    marker = str(uuid.uuid4())
    body = json.dumps({"model": "chat-m", "max_tokens": 4, "messages": HELLO}).encode()
    answer = send(stack.port, "POST", "/v1/messages", {**JSON, "x-api-key": KEY, "x-marker": marker}, body)
    assert answer.status == 200, answer
    assert answer.json()["type"] == "message"
    (seen,) = [found for engine in stack.engines_of("chat-m") if (found := engine.request(marker))]
    assert header(seen, "authorization") == f"Bearer {ENGINE_KEY}"
    assert header(seen, "x-api-key") is None


def test_auth_09_an_engine_sees_only_its_own_key(stack: Stack, client: openai.OpenAI) -> None:
    marker = str(uuid.uuid4())
    client.chat.completions.create(model="chat-m", messages=HELLO, extra_headers={"x-marker": marker})
    (seen,) = [found for engine in stack.engines_of("chat-m") if (found := engine.request(marker))]
    sent = [value for name, value in seen["headers"] if name.lower() == "authorization"]
    assert sent == [f"Bearer {ENGINE_KEY}"]
    assert KEY not in json.dumps(seen)


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/invocations"), ("POST", "/v1/load_lora_adapter"), ("POST", "/v1/unload_lora_adapter"),
     ("POST", "/collective_rpc"), ("GET", "/docs"), ("GET", "/openapi.json"), ("GET", "/metrics"), ("POST", "/sleep"),
     ("POST", "/pause"), ("GET", "/server_info"), ("GET", "/sim/requests"), ("PUT", "/sim/faults"), ("GET", "/health")],
)  # fmt: skip
def test_auth_10_engine_administration_is_not_reachable(stack: Stack, method: str, path: str) -> None:
    engines = stack.engines_of("chat-m")
    for engine in engines:
        engine.forget()
    body = json.dumps({"model": "chat-m", "lora_name": "x", "lora_path": "/x", "messages": HELLO}).encode()
    answer = stack.send(method, path, None if method == "GET" else body, JSON)
    assert_openai_error(answer, 404)
    assert [engine.requests() for engine in engines] == [[], []]
