"""Errors under /v1/messages, whoever makes them: Anthropic's SDK reads one shape only."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.dataplane.engines import EngineSpec
from tests.dataplane.raw import JSON, Answer
from tests.dataplane.stack import Stack

MESSAGE: dict[str, Any] = {
    "model": "chat-m", "max_tokens": 4, "messages": [{"role": "user", "content": "hello"}],
}  # fmt: skip
ONE = (EngineSpec("e0", ("chat-m",)),)


def assert_anthropic_error(answer: Answer, status: int, kind: str) -> None:
    assert answer.status == status, (answer.status, answer.body[:500])
    assert answer.header("content-type") == "application/json"
    said = json.loads(answer.body)
    assert {"type", "error"} <= set(said) <= {"type", "error", "request_id"}, said
    assert (said["type"], said["error"]["type"]) == ("error", kind)
    assert said["error"]["message"]
    assert set(said["error"]) == {"type", "message"}
    assert said.get("request_id", "") in ("", answer.header("x-request-id"))


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [("POST", "/v1/messages/nope", 404, "not_found_error"), ("GET", "/v1/messages/batches", 404, "not_found_error"),
     ("PUT", "/v1/messages", 405, "invalid_request_error"), ("GET", "/v1/messages?a=b", 405, "invalid_request_error")],
)  # fmt: skip
def test_unknown_paths_and_methods(stack: Stack, method: str, path: str, status: int, kind: str) -> None:
    assert_anthropic_error(stack.send(method, path, b"{}" if method == "POST" else None, JSON), status, kind)


def test_broken_body_unknown_model_and_bad_key(stack: Stack) -> None:
    assert_anthropic_error(stack.send("POST", "/v1/messages", b"{", JSON), 400, "invalid_request_error")
    assert_anthropic_error(stack.post("/v1/messages", MESSAGE | {"model": "x"}), 404, "not_found_error")
    answer = stack.send("POST", "/v1/messages/nope", b"{}", JSON | {"authorization": "Bearer sk-wrong"})
    assert_anthropic_error(answer, 401, "authentication_error")


def test_body_that_envoy_refuses(stack: Stack) -> None:
    pieces = iter([b" " * 1_000_000] * 60)  # of no declared length, so Envoy's buffer is what ends it
    answer = stack.send("POST", "/v1/messages", pieces, JSON)
    assert_anthropic_error(answer, 413, "request_too_large")


def test_nobody_there_to_place_it(new_stack: Callable[..., Stack]) -> None:
    stack = new_stack(ONE)
    stack.worker.child.kill()
    for path in ("/v1/messages", "/v1/messages/count_tokens", "/v1/messages?beta=true"):
        answer = stack.send("POST", path, json.dumps(MESSAGE).encode(), JSON)
        assert_anthropic_error(answer, 503, "overloaded_error")
        assert answer.header("retry-after") == "1"
    assert set(stack.send("GET", "/v1/messagesx").json()) == {"error"}
