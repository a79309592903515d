"""Acceptance 7.2: paths and methods, known, misspelt and hostile."""

import json

import openai
import pytest

from tests.dataplane.openai_error import assert_openai_error
from tests.dataplane.raw import JSON, send
from tests.dataplane.stack import Stack

CHAT = {"model": "chat-m", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
ORIGIN = {"origin": "https://app.example"}


def test_url_01_an_unknown_url_is_named(stack: Stack) -> None:
    assert_openai_error(stack.post("/v1/nope", CHAT), 404, code=None, contains="Invalid URL (POST /v1/nope)")


def test_url_02_a_path_without_v1_is_an_unknown_url(stack: Stack) -> None:
    assert_openai_error(stack.post("/chat/completions", CHAT), 404, code="unknown_url")


def test_url_02_a_base_url_without_v1_raises_not_found(stack: Stack) -> None:
    with (
        stack.client(base_url=f"http://127.0.0.1:{stack.port}") as client,
        pytest.raises(openai.NotFoundError) as caught,
    ):
        client.chat.completions.create(**CHAT)
    assert caught.value.code == "unknown_url"


def test_url_03_v1_twice_is_an_unknown_url(stack: Stack) -> None:
    assert_openai_error(stack.post("/v1/v1/chat/completions", CHAT), 404, code=None, contains="Invalid URL")


@pytest.mark.parametrize(
    "path",
    ["/v1/chat/completions/", "//v1/chat/completions", "/v1//chat/completions", "/v1/chat/completions?api-version=1"],
    ids=["url_04_slash", "url_05_double", "url_05_inner", "url_06_query"],
)
def test_url_04_05_06_harmless_spellings_reach_the_engine(stack: Stack, path: str) -> None:
    answer = stack.post(path, CHAT)
    assert answer.status == 200, answer
    assert answer.json()["object"] == "chat.completion"


def test_url_07_get_on_a_post_path_is_a_405_or_404_in_shape(stack: Stack) -> None:
    answer = stack.send("GET", "/v1/embeddings")
    assert_openai_error(answer, 405, contains="Not allowed to GET on /v1/embeddings")
    assert answer.header("allow") == "POST"


def test_url_07_get_chat_completions_is_refused_in_shape(stack: Stack) -> None:
    answer = stack.send("GET", "/v1/chat/completions")
    assert answer.status in (404, 405)
    assert_openai_error(answer, answer.status)
    assert answer.status == 404 or answer.header("allow") == "POST"


@pytest.mark.parametrize("method", ["DELETE", "POST", "PUT", "PATCH"])
def test_url_08_models_takes_get_only(stack: Stack, method: str) -> None:
    answer = stack.send(method, "/v1/models", b"" if method != "DELETE" else None)
    assert_openai_error(answer, 405, contains=f"Not allowed to {method}")
    assert "GET" in (answer.header("allow") or "")


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/chat-m", "/v1/files/file-1", "/v1/nope"])
def test_url_09_head_has_no_body(stack: Stack, path: str) -> None:
    answer = stack.send("HEAD", path)
    assert answer.status in (200, 404, 405)
    assert answer.body == b""
    assert answer.header("x-request-id")


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/v1/models", "/v1/embeddings", "/v1/responses", "/v1/audio/transcriptions"]
)
def test_url_10_a_preflight_is_answered_without_a_key(stack: Stack, path: str) -> None:
    wanted = "authorization,content-type,x-stainless-arch,x-stainless-lang,x-stainless-retry-count"
    asked = {**ORIGIN, "access-control-request-method": "POST", "access-control-request-headers": wanted}
    engines = stack.engines_of("chat-m")
    answer = send(stack.port, "OPTIONS", path, asked)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.header("access-control-allow-origin") in ("*", ORIGIN["origin"])
    allowed = {name.strip() for name in (answer.header("access-control-allow-headers") or "").split(",")}
    assert set(wanted.split(",")) <= allowed
    assert "POST" in (answer.header("access-control-allow-methods") or "")
    seen = [one["method"] for engine in engines for one in engine.get("/sim/requests")["requests"]]
    assert "OPTIONS" not in seen


@pytest.mark.parametrize(("path", "status"), [("/v1/models", 200), ("/v1/nope", 404)])
def test_url_11_a_page_may_read_answers_and_their_ids(stack: Stack, path: str, status: int) -> None:
    answer = stack.send("GET", path, headers=ORIGIN)
    assert answer.status == status
    assert answer.header("access-control-allow-origin") in ("*", ORIGIN["origin"])
    assert "x-request-id" in (answer.header("access-control-expose-headers") or "").lower()


def test_url_11_a_page_may_read_an_engines_answer_once(stack: Stack) -> None:
    answer = stack.post("/v1/chat/completions", CHAT, **ORIGIN)
    assert answer.status == 200
    assert answer.header("access-control-allow-origin") in ("*", ORIGIN["origin"])


@pytest.mark.parametrize("path", ["/v1/images/generations", "/v1/assistants", "/v1/fine_tuning/jobs", "/v1/evals"])
def test_url_12_what_is_not_served_is_an_invalid_url(stack: Stack, path: str) -> None:
    assert_openai_error(stack.post(path, CHAT), 404, code=None, contains=f"Invalid URL (POST {path})")


@pytest.mark.parametrize(
    "path",
    ["/v1/models/..%2f..%2fmetrics", "/v1/models/../../metrics", "/v1/models/%2e%2e/%2e%2e/metrics", "/v1/../metrics",
     "/v1/models/..%5c..%5cmetrics", "/v1/chat/completions/../../../metrics", "/v1/models/%2fetc%2fpasswd"],
)  # fmt: skip
def test_url_13_path_traversal_reaches_nothing(stack: Stack, path: str) -> None:
    answer = stack.send("GET", path)
    assert_openai_error(answer, 404)
    assert b"vllm:" not in answer.body


def test_url_14_input_tokens_is_no_405_of_an_engine(stack: Stack) -> None:
    assert_openai_error(stack.post("/v1/responses/input_tokens", {"model": "chat-m", "input": "x"}), 404)


def test_url_an_absolute_request_target_is_served_or_refused_in_shape(stack: Stack) -> None:
    answer = stack.send("POST", "http://other.example/v1/chat/completions", json.dumps(CHAT).encode(), JSON)
    assert answer.status == 200 or assert_openai_error(answer, answer.status)
