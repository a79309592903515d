"""Refusals as in contract tables of vLLM 0.32: status, shape, param, integer code."""

import json
from typing import Any

import aiohttp
import pytest

from aibrix_extproc.simulator.options import SimulatorOptions, Task
from aibrix_extproc.simulator.ranges import RANGES
from aibrix_extproc.simulator.reading import validation_error
from aibrix_extproc.simulator.server import Simulator
from tests.simulator.conversation import HELLO, chat_url, post

TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}
IMAGE = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}


# changes of a good chat request, status, type, param, part of the message
CHAT_REFUSALS: list[tuple[dict[str, Any], int, str, str | None, str]] = [
    (
        {"model": "nope"},
        404,
        "NotFoundError",
        "model",
        "The model `nope` does not exist. Valid aliases: sim-model, alias-a, ",
    ),
    ({"model": "nope", "stream": True}, 404, "NotFoundError", "model", "does not exist"),
    ({"model": 5}, 400, "Bad Request", "body.model", "'type': 'string_type', 'loc': 'body.model'"),
    ({"messages": ...}, 400, "Bad Request", "body.messages", "'type': 'missing', 'loc': 'body.messages'"),
    ({"messages": "hi"}, 400, "Bad Request", "body.messages", "list_type"),
    ({"messages": []}, 400, "BadRequestError", None, "Cannot apply chat template to an empty conversation"),
    ({"temperature": "hot"}, 400, "Bad Request", "body.temperature", "float_parsing"),
    ({"temperature": -1}, 400, "BadRequestError", "temperature", " (parameter=temperature, value=-1.0)"),
    ({"top_p": 3}, 400, "BadRequestError", "top_p", " (parameter=top_p, value=3.0)"),
    ({"n": 0}, 400, "BadRequestError", None, "n must be at least 1, got 0."),
    ({"max_tokens": 0}, 400, "BadRequestError", "max_tokens", " (parameter=max_tokens, value=0)"),
    ({"max_tokens": 257}, 400, "BadRequestError", "max_tokens", "max_tokens=257 cannot be greater than max_model_len"),
    (
        {"messages": [{"role": "user", "content": "x" * 1100}]},
        400,
        "BadRequestError",
        "input_tokens",
        "This model's maximum context length is 256 tokens. However, your prompt contains at least 257 input tokens, "
        "which exceeds this limit even without any output tokens.",
    ),
    ({"messages": [{"role": "user", "content": "x" * 40000}]}, 400, "BadRequestError", "input_text", "characters"),
    ({"stream_options": {"include_usage": True}}, 400, "BadRequestError", "stream_options", "`stream=True`"),
    ({"tools": [TOOL]}, 400, "BadRequestError", None, '"auto" tool choice requires --enable-auto-tool-choice'),
    ({"tool_choice": "required"}, 400, "BadRequestError", "tool_choice", "`tools` must be set"),
    ({"tools": []}, 400, "BadRequestError", "tools", "must not be an empty array"),
    (
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}},
        400,
        "BadRequestError",
        "tool_choice",
        "does not match any of the specified `tools` (parameter=tool_choice)",
    ),
    ({"presence_penalty": 3}, 400, "BadRequestError", None, "presence_penalty must be in [-2, 2], got 3.0."),
    ({"top_k": -5}, 400, "BadRequestError", None, "top_k must be 0 (disable), or at least 1, got -5."),
    ({"logprobs": True, "top_logprobs": 50}, 400, "BadRequestError", "logprobs", "greater than max allowed: 20"),
    ({"response_format": {"type": "x"}}, 400, "Bad Request", "body.response_format.type", "literal_error"),
    (
        {"messages": [{"content": "x"}]},
        400,
        "Bad Request",
        "body.messages.0.ChatCompletionDeveloperMessageParam.role",
        "Field required",
    ),
    (
        {"messages": [{"role": "user", "content": 5}]},
        400,
        "Bad Request",
        "body.messages.0.ChatCompletionDeveloperMessageParam.content",
        "string_type",
    ),
    ({"top_logprobs": 3}, 400, "BadRequestError", "top_logprobs", "`logprobs` must be set"),
    ({"messages": [IMAGE]}, 400, "BadRequestError", None, "is not a multimodal model"),
    ({"stop": ["a", "b", "c", "d", "e"]}, 400, "Bad Request", "body.stop", "'input': '<list of 5 items>'"),
]


@pytest.mark.parametrize(
    ("change", "status", "kind", "param", "part"), CHAT_REFUSALS, ids=[json.dumps(list(row[0]))[:40] + str(index)
    for index, row in enumerate(CHAT_REFUSALS)],
)  # fmt: skip
async def test_bad_chat_request_is_refused_in_shape_a(
    sim: Simulator,
    http: aiohttp.ClientSession,
    change: dict[str, Any],
    status: int,
    kind: str,
    param: str | None,
    part: str,
) -> None:
    body = {key: value for key, value in {**HELLO, **change}.items() if value is not ...}
    got, answer = await post(http, chat_url(sim), body)
    error = answer["error"]
    assert (got, error["type"], error["code"]) == (status, kind, status)
    assert part in error["message"]
    assert error["param"] == param


@pytest.mark.parametrize(
    ("raw", "content_type", "expected"),
    [
        (b"{bad", "application/json", ("A", "body.1", "JSON decode error")),
        (b"[1]", "application/json", ("A", "body", "valid dictionary")),
        (b"null", "application/json", ("A", "body", "Field required")),
        (b"", "application/json", ("A", "body", "Field required")),
        (b'{"x":"\xff"}', "application/json", ("B", None, "There was an error parsing the body")),
        (b"\x1f\x8b\x08", "application/json", ("B", None, "There was an error parsing the body")),
        (b"[" * 100_000, "application/json", ("B", None, "There was an error parsing the body")),
        (b'{"n":' + b"9" * 5000 + b"}", "application/json", ("B", None, "There was an error parsing the body")),
        (b"{}", "text/plain", ("A", None, "Unsupported Media Type: Only 'application/json' is allowed")),
        (b"{}", "application/vnd.api+json", ("A", None, "Unsupported Media Type")),
    ],
    ids=["malformed", "array", "null", "empty", "utf8", "gzip", "deep", "digits", "text", "vendor"],
)
async def test_unreadable_body_is_refused(
    sim: Simulator, http: aiohttp.ClientSession, raw: bytes, content_type: str, expected: tuple[str, str | None, str]
) -> None:
    shape, param, part = expected
    async with http.post(chat_url(sim), data=raw, headers={"Content-Type": content_type}) as response:
        assert response.status == 400
        body = await response.json()
    if shape == "B":
        assert body == {"detail": part}
    else:
        assert (body["error"]["code"], body["error"]["param"]) == (400, param)
        assert part in body["error"]["message"]


async def test_charset_parameter_of_json_is_fine(sim: Simulator, http: aiohttp.ClientSession) -> None:
    headers = {"Content-Type": "application/json; charset=utf-8"}
    async with http.post(chat_url(sim), data=json.dumps(HELLO), headers=headers) as response:
        assert response.status == 200


@pytest.mark.parametrize("model", [{}, {"model": ""}, {"model": None}])
async def test_missing_model_means_the_base_model(
    sim: Simulator, http: aiohttp.ClientSession, model: dict[str, Any]
) -> None:
    status, body = await post(http, chat_url(sim), {"messages": HELLO["messages"], **model})
    assert (status, body["model"]) == (200, "sim-model")


async def test_empty_stream_options_are_as_good_as_none(sim: Simulator, http: aiohttp.ClientSession) -> None:
    assert (await post(http, chat_url(sim), {**HELLO, "stream_options": {}}))[0] == 200


async def test_fields_of_other_requests_and_values_of_any_type_do_not_break_it(
    sim: Simulator, http: aiohttp.ClientSession
) -> None:
    values: tuple[object, ...] = ("2", {}, [1])
    requests = {
        "chat/completions": HELLO,
        "completions": {"prompt": "hello"},
        "responses": {"input": "hello"},
        "messages": {**HELLO, "max_tokens": 2},
    }
    for path, body in requests.items():
        for name in {rule.name for rule in RANGES}:
            for value in values:
                status, answer = await post(http, f"{sim.url}/v1/{path}", {**body, name: value})
                assert status in (200, 400), (path, name, value, answer)
    status, _ = await post(http, f"{sim.url}/v1/messages", {**requests["messages"], "n": 100_000})
    assert status == 200  # which has no such field


async def test_unknown_fields_and_roles_are_ignored(sim: Simulator, http: aiohttp.ClientSession) -> None:
    body = {"messages": [{"role": "bogus", "content": "x"}], "store": True, "guided_json": {}, "whatever": 1}
    assert (await post(http, chat_url(sim), body))[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/nope", 404, None),
        ("GET", "/v1/models/sim-model", 404, None),
        ("POST", "/v1/embeddings", 404, None),
        ("POST", "/v1/v1/chat/completions", 404, None),
        ("POST", "//v1/chat/completions", 404, None),
        ("GET", "/v1/chat/completions", 405, "POST"),
        ("HEAD", "/v1/models", 405, "GET"),
        ("OPTIONS", "/v1/models", 405, "GET"),
        ("POST", "/v1/responses/input_tokens", 405, "GET"),
    ],
)
async def test_unknown_url_or_method_is_refused_in_shape_b(
    sim: Simulator, http: aiohttp.ClientSession, method: str, path: str, status: int, allow: str | None
) -> None:
    async with http.request(method, f"{sim.url}{path}") as response:
        assert (response.status, response.headers.get("Allow")) == (status, allow)
        assert response.headers["Server"] == "uvicorn"
        if method != "HEAD":
            assert await response.json() == {"detail": response.reason}


async def test_trailing_slash_redirects_to_the_host_header(sim: Simulator, http: aiohttp.ClientSession) -> None:
    url = f"{sim.url}/v1/chat/completions/?a=b"
    async with http.post(url, json=HELLO, headers={"Host": "example.com"}, allow_redirects=False) as response:
        assert response.status == 307
        assert response.headers["Location"] == "http://example.com/v1/chat/completions?a=b"


async def test_preflight_is_refused_in_plain_text(sim: Simulator, http: aiohttp.ClientSession) -> None:
    headers = {"Origin": "http://x", "Access-Control-Request-Method": "POST"}
    async with http.options(chat_url(sim), headers=headers) as response:
        assert (response.status, response.content_type) == (400, "text/plain")
        assert await response.text() == "Disallowed CORS origin"


@pytest.mark.parametrize(("key", "status"), [(None, 401), ("Bearer no", 401), ("Bearer sk-1", 200), ("sk-1", 401)])
async def test_key_guards_v1_only(http: aiohttp.ClientSession, key: str | None, status: int) -> None:
    headers = {"Authorization": key} if key else {}
    async with Simulator(SimulatorOptions(api_keys=("sk-1",))) as sim:
        async with http.get(f"{sim.url}/v1/models", headers=headers) as response:
            assert response.status == status
            if status == 401:
                assert await response.json() == {"error": "Unauthorized"}
                assert "WWW-Authenticate" not in response.headers
        assert (await post(http, f"{sim.url}/tokenize", {"prompt": "a"}, headers))[0] == 200


async def test_unknown_model_of_a_pooling_engine_has_no_param(http: aiohttp.ClientSession) -> None:
    async with Simulator(SimulatorOptions(task=Task.EMBED, models=("m", "alias"))) as sim:
        status, body = await post(http, f"{sim.url}/v1/embeddings", {"model": "nope", "input": "x"})
    assert status == 404
    assert (body["error"]["message"], body["error"]["param"]) == ("The model `nope` does not exist.", None)


async def test_body_above_the_limit_is_refused(http: aiohttp.ClientSession) -> None:
    async with Simulator(SimulatorOptions(max_body_bytes=1000)) as sim:
        status, body = await post(http, chat_url(sim), {"x": "y" * 2000})
    assert (status, body) == (413, {"detail": "Request Entity Too Large"})


async def test_completion_suffix_and_empty_prompt_are_refused(sim: Simulator, http: aiohttp.ClientSession) -> None:
    url = f"{sim.url}/v1/completions"
    status, body = await post(http, url, {"prompt": "a", "suffix": "b"})
    assert (status, body["error"]["param"]) == (400, "suffix")
    empty: list[Any] = [None, "", []]
    for prompt in empty:
        assert (await post(http, url, {"prompt": prompt}))[0] == 400


async def test_messages_errors_are_anthropic_unless_validation(sim: Simulator, http: aiohttp.ClientSession) -> None:
    url = f"{sim.url}/v1/messages"
    good = {"model": "sim-model", "max_tokens": 5, "messages": HELLO["messages"]}
    status, body = await post(http, url, {**good, "model": "nope"})
    assert (status, body["type"], body["error"]["type"]) == (404, "error", "NotFoundError")
    status, body = await post(http, url, {"model": "sim-model", "messages": []})
    assert (status, body["error"]["code"], body["error"]["param"]) == (400, 400, "body.max_tokens")


async def test_answer_gets_the_room_that_the_prompt_leaves(sim: Simulator, http: aiohttp.ClientSession) -> None:
    _, body = await post(http, chat_url(sim), {**HELLO, "max_tokens": 256, "ignore_eos": True})
    assert body["usage"]["total_tokens"] == 256
    assert body["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("tokens", "part"),
    [(256, "max_tokens must be at least 1, got 0."), (300, "contains 300 input tokens, which exceeds")],
)
async def test_prompt_of_tokens_that_fills_the_context_is_refused(
    sim: Simulator, http: aiohttp.ClientSession, tokens: int, part: str
) -> None:
    status, body = await post(http, f"{sim.url}/v1/completions", {"prompt": [1] * tokens})
    assert status == 400
    assert part in body["error"]["message"]


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "f"}}])
async def test_tool_choice_without_a_parser_is_refused(http: aiohttp.ClientSession, choice: Any) -> None:
    async with Simulator(SimulatorOptions(tool_call_parser=False)) as sim:
        status, body = await post(http, chat_url(sim), {**HELLO, "tools": [TOOL], "tool_choice": choice})
    assert (status, body["error"]["param"]) == (400, None)
    assert "requires --tool-call-parser to be set" in body["error"]["message"]


def test_validation_error_shows_ten_failures_at_most() -> None:
    errors = [{"type": "missing", "loc": ("body", index), "msg": "x", "input": {}} for index in range(12)]
    message = validation_error(errors).message
    assert message.startswith("12 validation errors:\n  {'type': 'missing', 'loc': 'body.0'")
    assert message.endswith("'body.9', 'msg': 'x', 'input': '<dict of 0 items>'}\n  ...and 2 more errors")
