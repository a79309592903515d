"""Acceptance 7.3: what is wrong with a request is told in OpenAI's words, by whoever finds it."""

import gzip
import json
import socket
import uuid
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.dataplane.openai_error import assert_openai_error
from tests.dataplane.raw import JSON
from tests.dataplane.stack import Stack

HELLO = [{"role": "user", "content": "hello"}]
CHAT: dict[str, Any] = {"model": "chat-m", "messages": HELLO, "max_tokens": 4}
PATH = "/v1/chat/completions"
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.mark.parametrize(
    "body",
    [b"{bad", b"[1]", b'"x"', b"null", b"", b'{"model":"chat-m"', b"\xef\xbb\xbf" + json.dumps(CHAT).encode()],
    ids=["req_01-bad", "req_02-array", "req_02-string", "req_02-null", "req_02-empty", "req_01-cut", "req_01-bom"],
)
def test_req_01_02_what_is_no_json_object_is_malformed(stack: Stack, body: bytes) -> None:
    error = assert_openai_error(stack.send("POST", PATH, body, JSON), 400, code=None, param=None)
    assert error["message"].startswith("We could not parse the JSON body of your request.")


def test_req_03_invalid_utf_8_is_malformed(stack: Stack) -> None:
    body = json.dumps(CHAT).encode().replace(b"hello", b"hel\xfflo")
    assert_openai_error(stack.send("POST", PATH, body, JSON), 400, param=None, contains="could not parse the JSON")


@pytest.mark.parametrize(("first", "last", "status"), [("nope", "chat-m", 200), ("chat-m", "nope", 404)])
def test_req_04_the_last_of_two_model_keys_counts(stack: Stack, first: str, last: str, status: int) -> None:
    body = f'{{"model":"{first}","messages":{json.dumps(HELLO)},"model":"{last}","max_tokens":2}}'
    answer = stack.send("POST", PATH, body.encode(), JSON)
    if status == 200:
        assert (answer.status, answer.json()["model"]) == (200, last)
    else:
        assert_openai_error(answer, 404, code="model_not_found")


def test_req_05_no_model_is_asked_for(stack: Stack) -> None:
    assert_openai_error(stack.post(PATH, {"messages": HELLO}), 400, contains="you must provide a model parameter")


@pytest.mark.parametrize("model", ["", "  ", 5, None, [], {}, True], ids=str)
def test_req_06_a_model_must_be_a_non_empty_string(stack: Stack, model: object) -> None:
    assert_openai_error(stack.post(PATH, {**CHAT, "model": model}), 400, param="model")


def test_req_07_an_unknown_model_raises_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="nope", messages=HELLO)
    assert caught.value.code == "model_not_found"
    assert_openai_error(caught.value, 404, contains="The model `nope` does not exist")


def test_req_08_an_unknown_model_of_a_stream_is_the_same_json(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="nope", messages=HELLO, stream=True)
    assert_openai_error(caught.value, 404, code="model_not_found")


@pytest.mark.parametrize("model", ["chat-m ", " chat-m", "Chat-M", "chat-m\n", "chat", "chat-m/"])
def test_req_09_model_names_match_exactly(stack: Stack, model: str) -> None:
    assert_openai_error(stack.post(PATH, {**CHAT, "model": model}), 404, code="model_not_found")


def test_req_10_missing_messages_are_named(stack: Stack) -> None:
    error = assert_openai_error(
        stack.post(PATH, {"model": "chat-m"}), 400, code="missing_required_parameter", param="messages"
    )
    assert error["message"] == "Missing required parameter: 'messages'."


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"messages": "hi"}, "messages"), ({"temperature": "hot"}, "temperature"), ({"max_tokens": "many"}, "max_tokens"),
     ({"stop": 5}, "stop"), ({"tools": "none"}, "tools")],
    ids=["req_11-messages", "req_12-temperature", "max_tokens", "stop", "tools"],
)  # fmt: skip
def test_req_11_12_a_wrong_type_names_its_field(stack: Stack, fields: dict[str, Any], param: str) -> None:
    error = assert_openai_error(stack.post(PATH, CHAT | fields), 400, code="invalid_type")
    assert (error["param"] or "").split(".")[0].split("[")[0] == param


@pytest.mark.parametrize(
    ("field", "value"), [("temperature", -1), ("top_p", 3), ("n", 0), ("max_tokens", 0)], ids=lambda one: str(one)
)
def test_req_13_a_value_out_of_range_names_its_field(stack: Stack, field: str, value: int) -> None:
    error = assert_openai_error(stack.post(PATH, CHAT | {field: value}), 400, param=field)
    assert "(parameter=" not in error["message"]
    assert error["code"] is None or "value" in error["code"]


def test_req_14_a_prompt_over_the_context_raises_context_length_exceeded(client: openai.OpenAI) -> None:
    messages = [{"role": "user", "content": "word " * 4000}]
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="org/chat-s", messages=messages)
    assert caught.value.code == "context_length_exceeded"
    assert_openai_error(caught.value, 400, param="messages", contains="maximum context length is 512 tokens")


@pytest.mark.parametrize(
    ("path", "model", "param"),
    [("/v1/completions", "org/chat-s", "prompt"), ("/v1/responses", "org/chat-s", "input"),
     ("/v1/embeddings", "emb-m", "input")],
)  # fmt: skip
def test_req_15_a_prompt_over_the_context_elsewhere(stack: Stack, path: str, model: str, param: str) -> None:
    answer = stack.post(path, {"model": model, param: "word " * 20_000})
    assert_openai_error(answer, 400, code="context_length_exceeded", param=param, contains="context")


def test_req_16_more_output_than_the_context_names_max_tokens(stack: Stack) -> None:
    assert_openai_error(stack.post(PATH, CHAT | {"max_tokens": 1_000_000}), 400, param="max_tokens")


def test_req_17_stream_options_need_a_stream(stack: Stack) -> None:
    answer = stack.post(PATH, CHAT | {"stream_options": {"include_usage": True}})
    assert_openai_error(answer, 400, param="stream_options", contains="only allowed when 'stream' is enabled")


def test_req_18_unknown_and_vllm_parameters_reach_the_engine_unchanged(stack: Stack) -> None:
    marker = str(uuid.uuid4())
    body = json.dumps(CHAT | {"unknown_param": 1, "top_k": 5, "min_p": 0.1, "guided_regex": "é+"}, indent=3).encode()
    answer = stack.send("POST", PATH, body, JSON | {"x-marker": marker})
    assert answer.status == 200
    (seen,) = [found for engine in stack.engines_of("chat-m") if (found := engine.request(marker))]
    assert seen["body"].encode() == body


@pytest.mark.parametrize(
    ("content_type", "status"),
    [("application/json; charset=utf-8", 200), ("Application/JSON", 200), ("text/plain", 400),
     ("application/vnd.api+json", 400), ("multipart/form-data; boundary=x", 400)],
)  # fmt: skip
def test_req_19_20_content_types(stack: Stack, content_type: str, status: int) -> None:
    answer = stack.send("POST", PATH, json.dumps(CHAT).encode(), {"content-type": content_type})
    if status == 200:
        assert answer.status == 200
    else:
        assert_openai_error(answer, status, contains="Unsupported content type")


def test_req_19_no_content_type_is_refused_in_shape(stack: Stack) -> None:
    assert_openai_error(stack.send("POST", PATH, json.dumps(CHAT).encode()), 400)


def test_req_21_a_gzip_body_is_refused_with_415(stack: Stack) -> None:
    body = gzip.compress(json.dumps(CHAT).encode())
    answer = stack.send("POST", PATH, body, JSON | {"content-encoding": "gzip"})
    assert_openai_error(answer, 415, contains="content encoding")


def test_req_22_a_chunked_body_is_taken(stack: Stack) -> None:
    body = json.dumps(CHAT).encode()
    answer = stack.send("POST", PATH, (body[at : at + 7] for at in range(0, len(body), 7)), JSON)
    assert answer.status == 200


@pytest.mark.slow
def test_req_23_expect_100_continue_is_answered_before_the_body(stack: Stack) -> None:
    body = json.dumps(CHAT | {"padding": "x" * 1_500_000}).encode()
    head = f"POST {PATH} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {stack.api_keys[0]}\r\n"
    head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\nexpect: 100-continue\r\n\r\n"
    with socket.create_connection(("127.0.0.1", stack.port), timeout=60.0) as wire:
        wire.sendall(head.encode())
        assert wire.recv(4096).startswith(b"HTTP/1.1 100 ")  # before any of the body
        wire.sendall(body)
        assert wire.recv(4096).startswith(b"HTTP/1.1 200 ")


@pytest.mark.slow
def test_req_24_a_body_of_40_mb_passes(stack: Stack) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 40_000_000}}
    for _ in range(3):
        answer = stack.post_large(PATH, CHAT | {"messages": [{"role": "user", "content": [image]}]})
        assert answer.status == 200, answer
    assert stack.worker.child.peak_mib() < 400  # Python and gRPC, and some copies of one body


@pytest.mark.slow
@pytest.mark.parametrize("chunked", [False, True], ids=["with-length", "without-length"])
def test_req_25_a_body_over_the_limit_is_a_413(stack: Stack, chunked: bool) -> None:
    piece = b"a" * 1_000_000

    def pieces() -> Iterator[bytes]:
        for _ in range(56):
            yield piece

    answer = stack.send("POST", PATH, pieces() if chunked else piece * 56, JSON)
    assert_openai_error(answer, 413, code="request_too_large")


def test_req_25_a_declared_length_over_the_limit_is_refused_before_the_body(stack: Stack) -> None:
    head = f"POST {PATH} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {stack.api_keys[0]}\r\n"
    head += "content-type: application/json\r\ncontent-length: 99999999999\r\n\r\n"
    with socket.create_connection(("127.0.0.1", stack.port), timeout=60.0) as wire:
        wire.sendall(head.encode())
        assert wire.recv(4096).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "body",
    [b'{"model":"chat-m","messages":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
     b'{"model":"chat-m","messages":' + json.dumps(HELLO).encode() + b',"seed":' + b"9" * 1_000_000 + b"}"],
    ids=["depth", "digits"],
)  # fmt: skip
def test_req_26_extreme_json_is_a_400(stack: Stack, body: bytes) -> None:
    assert_openai_error(stack.send("POST", PATH, body, JSON), 400)
    assert stack.post(PATH, CHAT).status == 200


@pytest.mark.slow
def test_req_27_a_model_behind_20_mb_of_messages_is_found(stack: Stack) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 20_000_000}}
    body = {"messages": [{"role": "user", "content": [image]}], "max_tokens": 2, "model": "chat-m"}
    answer = stack.post_large(PATH, body)
    assert (answer.status, answer.json()["model"]) == (200, "chat-m")


def test_req_28_an_unknown_model_does_not_list_the_engines_aliases(stack: Stack) -> None:
    # Known to the gateway only: the engine itself refuses, and names its aliases.
    engine = stack.engine("small")
    engine.fail("status", count=1, code=404, message="The model `org/chat-s` does not exist. Valid aliases: secret-x.")
    try:
        answer = stack.post(PATH, {**CHAT, "model": "org/chat-s"})
    finally:
        engine.recover()
    assert_openai_error(answer, 404, code="model_not_found")
    assert b"secret-x" not in answer.body


def test_req_29_tool_choice_auto_without_a_parser_names_tool_choice(stack: Stack) -> None:
    answer = stack.post(PATH, CHAT | {"model": "org/chat-s", "tools": [TOOL], "tool_choice": "auto"})
    error = assert_openai_error(answer, 400, param="tool_choice")
    assert "--enable" not in error["message"]


def test_req_30_features_pass_through(client: openai.OpenAI) -> None:
    schema = {"name": "s", "schema": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}}
    completion = client.chat.completions.create(
        model="chat-m", messages=HELLO, n=2, logprobs=True, top_logprobs=2, seed=7,
        response_format={"type": "json_schema", "json_schema": schema},
    )  # fmt: skip
    assert len(completion.choices) == 2
    assert all(isinstance(json.loads(choice.message.content)["a"], int) for choice in completion.choices)
    assert completion.choices[0].logprobs.content[0].top_logprobs
    called = client.chat.completions.create(model="chat-m", messages=HELLO, tools=[TOOL], tool_choice="required")
    (call,) = called.choices[0].message.tool_calls
    assert (call.function.name, list(json.loads(call.function.arguments))) == ("weather", ["city"])
