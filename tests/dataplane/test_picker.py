"""The endpoint picker behind an Envoy that streams bodies both ways, used through the OpenAI SDK."""

import contextlib
import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.dataplane.engines import ENGINE_KEY, EngineSpec, header
from tests.dataplane.picking import ARGUMENTS, SUBSET_HINT_HEADER, by_header, by_metadata
from tests.dataplane.raw import JSON
from tests.dataplane.stack import Stack, running
from tests.dataplane.test_http2 import ask
from tests.waiting import eventually

ENGINES = (
    EngineSpec("chat-1", ("chat-m",), ("--max-model-len", "4000000")),
    EngineSpec("chat-2", ("chat-m",), ("--max-model-len", "4000000")),
)
HELLO: Any = [{"role": "user", "content": "Say hello."}]
PICKER: dict[str, Any] = {"command": "picker"}


@pytest.fixture(scope="module", params=["lean", "grpcio"])
def picker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    arguments = (*ARGUMENTS, "--transport", request.param, "--max-body-bytes", str(6 * 1024 * 1024))
    directory = tmp_path_factory.mktemp("picker")
    with running(Stack(directory, ENGINES, serve_arguments=arguments, envoy_change=by_metadata, **PICKER)) as started:
        yield started


@pytest.fixture
def client(picker: Stack) -> Iterator[openai.OpenAI]:
    with picker.client() as made:
        yield made
    for engine in picker.engines_of("chat-m"):
        engine.recover()


def chat(size: int = 0, **fields: object) -> bytes:
    messages = [{"role": "user", "content": "x" * size or "hi"}]
    return json.dumps({"model": "chat-m", "messages": messages, **fields}).encode()


def chunked(body: bytes, size: int = 20_000) -> Iterator[bytes]:
    return (body[start : start + size] for start in range(0, len(body), size))


def test_chat_is_answered(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="chat-m", messages=HELLO)
    assert answer.choices[0].message.content
    assert answer.usage


def test_models_are_listed_without_an_engine(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["chat-m"]


def test_stream_arrives_chunk_by_chunk(client: openai.OpenAI) -> None:
    """What the engine has sent, the role first, is with the client while the engine sends nothing more."""
    fault = {"x-sim-fault": "stall-mid-stream;after=4"}
    with client.chat.completions.create(model="chat-m", messages=HELLO, stream=True, extra_headers=fault) as stream:
        texts = (chunk.choices[0].delta.content for chunk in stream if chunk.choices)
        assert len(list(islice(filter(None, texts), 3))) == 3


def test_request_of_five_megabytes_reaches_the_engine_as_it_was_sent(picker: Stack) -> None:
    body = chat(5 * 1024 * 1024, max_tokens=1)
    for sent in (body, chunked(body)):
        answer = picker.send("POST", "/v1/chat/completions", sent, JSON | {"x-marker": "five"})
        assert answer.status == 200, answer.body[:500]
        found = [one.request("five") for one in picker.engines_of("chat-m")]
        assert [one["body_bytes"] for one in found if one] == [len(body)]
        for one in picker.engines_of("chat-m"):
            one.forget()


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "chunked"])
def test_body_over_the_limit_is_a_413_of_the_api(picker: Stack, declared: bool) -> None:
    body = chat(7 * 1024 * 1024)
    answer = picker.send("POST", "/v1/chat/completions", body if declared else chunked(body), JSON)
    assert answer.status == 413
    assert answer.header("content-type") == "application/json"
    assert answer.json()["error"]["code"] == "request_too_large"


@pytest.mark.parametrize("size", [0, 200_000])
def test_error_of_an_engine_is_the_api_s(client: openai.OpenAI, size: int) -> None:
    messages: Any = [{"role": "user", "content": "x" * size}]
    fault = {"x-sim-fault": "status;code=400;message=" + "m" * 100}
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(model="chat-m", messages=messages, extra_headers=fault)
    body: Any = raised.value.body
    assert set(body) == {"message", "type", "param", "code"}
    assert body["type"] == "invalid_request_error"
    assert raised.value.response.headers["content-type"] == "application/json"


def test_unknown_model_is_a_404(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        client.chat.completions.create(model="nope", messages=HELLO)
    assert raised.value.code == "model_not_found"


def test_empty_chunked_body_is_a_400(picker: Stack) -> None:
    answer = picker.send("POST", "/v1/chat/completions", iter(()), JSON)
    assert (answer.status, answer.json()["error"]["type"]) == (400, "invalid_request_error")


def test_changed_body_reaches_the_engine_whole(client: openai.OpenAI) -> None:
    answer = client.responses.create(model="chat-m", input="Say hello.")
    assert answer.id.startswith("resp_")
    assert answer.output_text


def test_http_2_request_with_trailers_is_answered(picker: Stack) -> None:
    whole, stream = ask(picker, [chat(), chat(stream=True)], trailers=[("x-checksum", "1")])
    assert whole.headers[":status"] == "200"
    assert json.loads(whole.body)["object"] == "chat.completion"
    assert stream.body.endswith(b"data: [DONE]\n\n")


def test_only_endpoints_of_the_hint_are_picked(picker: Stack) -> None:
    first, second = picker.engines_of("chat-m")
    for one in (first, second):
        one.forget()
    for _ in range(6):
        hint = {SUBSET_HINT_HEADER: f"10.9.9.9:1, {second.address}"}
        assert picker.send("POST", "/v1/chat/completions", chat(), JSON | hint).status == 200
    assert (len(first.requests()), len(second.requests())) == (0, 6)


def test_hint_that_leaves_no_endpoint_is_a_503(picker: Stack) -> None:
    answer = picker.send("POST", "/v1/chat/completions", chat(), JSON | {SUBSET_HINT_HEADER: "10.9.9.9:1"})
    assert answer.status == 503
    assert answer.json()["error"]["code"] == "model_not_ready"
    assert picker.send("GET", "/v1/models", None, {SUBSET_HINT_HEADER: "10.9.9.9:1"}).status == 200


def test_nothing_is_counted_as_running_in_the_end(picker: Stack, client: openai.OpenAI) -> None:
    client.chat.completions.create(model="chat-m", messages=HELLO)
    eventually(lambda: picker.worker.total("aibrix_extproc_in_flight") == 0, "nothing is with an engine")
    assert picker.envoy_stats("spurious_msgs_received") == {"http.openai.ext_proc.spurious_msgs_received": 0}


@pytest.mark.slow
def test_fixture_of_conformance_tests_goes_where_a_header_says_and_tells_what_served(tmp_path: Path) -> None:
    """Whatever the path; the engines' key is the client's, since a fixture has none."""
    arguments = (*ARGUMENTS, "--test-mode")
    options: dict[str, Any] = {"api_keys": (ENGINE_KEY,), "serve_arguments": arguments, "envoy_change": by_metadata}
    with running(Stack(tmp_path, ENGINES, **PICKER, **options)) as stack:
        for engine in stack.engines_of("chat-m") * 2:
            named = {"test-epp-endpoint-selection": f"10.9.9.9, {engine.address}", "x-marker": engine.address}
            answer = stack.send("POST", "/v1/chat/completions", chat(100_000), JSON | named)
            assert answer.status == 200
            assert answer.header("x-conformance-test-served-endpoint") == engine.address
            found = engine.request(engine.address)
            assert found is not None
            assert header(found, "x-echo-set-header") == f"x-conformance-test-served-endpoint:{engine.address}"
        assert stack.send("GET", "/any/path").status == 404
        nobody = stack.send("POST", "/any/path", b"x", {"test-epp-endpoint-selection": "10.9.9.9"})
        assert (nobody.status, nobody.header("content-type")) == (503, "application/json")


@pytest.mark.slow
def test_killed_engine_costs_nothing_but_its_streams(new_stack: Callable[..., Stack]) -> None:
    arguments = (*ARGUMENTS, "--destinations", "4")
    stack = new_stack(ENGINES, serve_arguments=arguments, envoy_change=by_header, **PICKER)
    with stack.client() as client:
        stream = client.chat.completions.create(
            model="chat-m", messages=HELLO, stream=True, max_tokens=200, extra_headers={"x-sim-itl-ms": "50"}
        )
        next(iter(stream))
        busy = next(one for one in stack.engines_of("chat-m") if one.stats()["running"])
        stack.kill_engine(busy.spec.name)
        with contextlib.suppress(openai.APIError, Exception):
            for _ in stream:
                pass
        for _ in range(4):
            assert client.chat.completions.create(model="chat-m", messages=HELLO).choices
