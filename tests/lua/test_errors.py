"""Errors inside of streams: every shape becomes the API's, and no end is taken for a success that is none."""

import json
from typing import Any

import pytest

from aibrix_extproc.core.openai.contract.errors import ERRORS
from tests.lua.driver import Passed, cut, send
from tests.lua.streams import (
    ANTHROPIC,
    ANTHROPIC_BEGUN,
    BEGUN,
    CHAT,
    CHUNKS,
    DONE,
    TYPED,
    TYPED_BEGUN,
    chunk,
    data,
    typed,
    typed_end,
    usage_chunk,
)

SAD = ERRORS["upstream_error"].message
CONTEXT = "This model's maximum context length is 256 tokens. However, your prompt contains 257 input tokens."
SHAPES: dict[str, Any] = {
    "A": {"error": {"message": "EngineCore encountered an issue", "type": "InternalServerError", "param": None,
                    "code": 500}},
    "flat": {"object": "error", "message": "CUDA out of memory", "type": "InternalServerError", "code": 500},
    "without object": {"message": "x", "type": "y", "code": 500},
    "text": {"error": "boom at /opt/venv/lib/python3.12/site-packages/vllm/engine.py"},
    "detail": {"detail": "Internal Server Error"},
    "detail list": {"detail": [{"loc": ["body"], "msg": "bad"}]},
    "no code": {"error": {"message": "x"}},
    "odd": {"error": {"message": {"a": 1}, "code": [1], "type": 5, "param": {}}},
    "array": {"error": [1, 2]},
    "behind choices": {"id": "x", "choices": [], "error": {"message": "x", "code": 500}},
}  # fmt: skip
each_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def error_of(passed: Passed) -> dict[str, Any]:
    error: dict[str, Any] = passed.error["error"]
    return error


@each_shape
def test_chat_error_of_any_shape_becomes_openais(shape: Any) -> None:
    body = CHUNKS + data(shape) + DONE
    for size in (1, 7, 100, len(body)):
        passed = send(cut(body, size))
        assert passed.error == {"error": {"message": SAD, "type": "server_error", "param": None,
                                          "code": "upstream_error"}}  # fmt: skip
        assert passed.body.startswith(CHUNKS)
        assert passed.body.endswith(DONE)
        assert passed.metadata == {"terminal": True, "error": "upstream_error"}


@each_shape
def test_responses_error_of_any_shape_becomes_an_error_event(shape: Any) -> None:
    if "choices" in shape:
        shape = {"error": shape["error"]}
    body = TYPED_BEGUN + data(shape) + DONE
    for size in (1, 7, 100, len(body)):
        passed = send(cut(body, size), stream="typed")
        event = passed.error
        assert [one.name for one in passed.events if one.data != "[DONE]"][-1] == "error"
        assert event["type"] == "error"
        assert event["sequence_number"] == 8
        assert {name: event[name] for name in ("message", "param", "code")} == {
            "message": SAD, "param": None, "code": "upstream_error",
        }  # fmt: skip
        assert event["error"] == {"message": SAD, "type": "server_error", "param": None, "code": "upstream_error"}
        assert passed.metadata == {"terminal": False, "error": "upstream_error"}


@each_shape
def test_messages_error_of_any_shape_becomes_anthropics(shape: Any) -> None:
    body = ANTHROPIC_BEGUN + data(shape) + typed("message_stop")
    for size in (1, 7, 100, len(body)):
        passed = send(cut(body, size), stream="anthropic")
        assert passed.error == {"type": "error", "error": {"type": "api_error", "message": SAD}}
        assert b"event: error\n" in passed.body


def test_anthropic_error_event_loses_its_traceback() -> None:
    leak = '1 validation error for ErrorResponse\nerror\n  Field required [type=missing] File "/vllm/entry.py"'
    event = typed("error", error={"type": "internal_error", "message": leak})
    passed = send([ANTHROPIC_BEGUN + event], stream="anthropic")
    assert passed.error["error"] == {"type": "api_error", "message": SAD}
    assert passed.body.count(b"event: error") == 1
    kept = typed("error", error={"type": "invalid_request_error", "message": CONTEXT})
    assert send([ANTHROPIC_BEGUN + kept], stream="anthropic").error["error"] == {
        "type": "invalid_request_error", "message": CONTEXT,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("code", "row", "name"),
    [
        (500, "upstream_error", "upstream_error"),
        (503, "overloaded", "overloaded"),
        (504, "timeout", "timeout"),
        (408, "timeout", "timeout"),
        (401, "upstream_error", "upstream_error"),
        ("503", "overloaded", "overloaded"),
        (0, "upstream_error", "upstream_error"),
    ],
)
def test_texts_are_those_of_the_table(code: object, row: str, name: str) -> None:
    passed = send([data({"error": {"message": "secret", "type": "X", "code": code}})])
    assert error_of(passed) == {"message": ERRORS[row].message, "type": ERRORS[row].type, "param": None, "code": name}
    assert passed.metadata["error"] == name


def test_a_refusal_keeps_the_words_that_are_for_the_client() -> None:
    told = {"message": CONTEXT, "type": "BadRequestError", "param": "body.messages", "code": 400}
    passed = send([data({"error": told})])
    assert error_of(passed) == {
        "message": CONTEXT, "type": "invalid_request_error", "param": "messages", "code": "context_length_exceeded",
    }  # fmt: skip
    suffix = "temperature must be non-negative, got -1.0. (parameter=temperature, value=-1.0)"
    error = error_of(send([data({"error": {"message": suffix, "type": "BadRequestError", "code": 400}})]))
    assert error == {
        "message": "temperature must be non-negative, got -1.0.", "type": "invalid_request_error", "param": None,
        "code": None,
    }  # fmt: skip
    error = error_of(send([data({"error": {"message": "Slow down.", "type": "RateLimitError", "code": 429}})]))
    assert (error["type"], error["code"]) == ("requests", "rate_limit_exceeded")


@pytest.mark.parametrize(
    "leak",
    [
        "2 validation errors:\n  {'type': 'missing'}",
        "Loading /models/secret/weights failed",
        "Set VLLM_ENABLE=1",
        "Use --max-model-len",
        "see https://internal.example/x",
        "peer 10.0.0.3:8000 is gone",
        "x" * 600,
        "",
        "RuntimeError: no",
    ],
)
def test_a_refusal_never_tells_about_the_inside(leak: str) -> None:
    error = error_of(send([data({"error": {"message": leak, "type": "BadRequestError", "code": 400}})]))
    assert error["message"] == "The engine refused the request."


@pytest.mark.parametrize("kind", sorted(BEGUN))
def test_a_stream_without_its_last_event_is_no_success(kind: str) -> None:
    begun = BEGUN[kind]
    for size in (1, 7, 100, len(begun)):
        passed = send(cut(begun, size), stream=kind)
        assert passed.body.startswith(begun)
        assert passed.error["error"]["message"] == SAD
        assert passed.metadata["terminal"] is False
        assert passed.metadata["error"] == "upstream_error"
        assert passed.error.get("sequence_number") == (8 if kind == "typed" else None)
        assert passed.body.endswith(DONE) == (kind == "data_done")


@pytest.mark.parametrize("kind", sorted(BEGUN))
def test_a_stream_cut_inside_an_event_is_no_success(kind: str) -> None:
    begun = BEGUN[kind]
    whole = begun.rfind(b"\n\n", 0, -2) + 2
    for place in range(whole, len(begun) - 2):
        passed = send([begun[:place], b""], stream=kind)
        assert passed.error["error"]["message"] == SAD
        assert passed.body.startswith(begun[:whole])
        assert all(one.data == "[DONE]" or json.loads(one.data) for one in passed.events)


def test_an_empty_stream_is_no_success() -> None:
    assert send([b""]).error["error"]["code"] == "upstream_error"


def test_the_end_may_come_with_the_last_bytes() -> None:
    assert send([CHAT]).body == CHAT
    assert send([CHUNKS]).body.endswith(DONE)
    assert error_of(send([CHUNKS]))["code"] == "upstream_error"


def test_a_last_event_that_lacks_only_its_blank_line_gets_it() -> None:
    for lacking in (b"\n", b"\n\n"):
        assert send([CHAT.removesuffix(lacking), b""]).body == CHAT
        assert send([TYPED.removesuffix(lacking), b""], stream="typed").body == TYPED
        assert send([ANTHROPIC.removesuffix(lacking), b""], stream="anthropic").body == ANTHROPIC


def test_an_error_without_an_end_gets_one_and_no_second_error() -> None:
    passed = send([CHUNKS, data(SHAPES["A"])])
    assert passed.error
    assert passed.body.endswith(DONE)
    assert passed.metadata == {"terminal": False, "error": "upstream_error"}


def test_a_stream_that_trailers_end_cannot_be_completed_but_is_reported() -> None:
    passed = send([CHUNKS], ending="trailers")
    assert passed.body == CHUNKS
    assert passed.metadata == {"terminal": False, "error": "upstream_error"}


def test_an_engine_that_was_put_to_sleep_gives_no_success() -> None:
    usage = usage_chunk({"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3})
    body = chunk("a") + chunk("", "abort") + usage + DONE
    for size in (1, 7, 100, len(body)):
        passed = send(cut(body, size), hide=True)
        assert error_of(passed)["code"] == "upstream_error"
        assert b"abort" not in passed.body
        assert passed.metadata["error"] == "upstream_error"
        assert passed.metadata["output_tokens"] == 2
    assert send([chunk('"abort"') + DONE]).body == chunk('"abort"') + DONE


def test_a_failed_response_ends_the_stream_and_says_so_in_our_words() -> None:
    error = {"code": 500, "message": "EngineCore at /x/y/z.py"}
    body = TYPED_BEGUN + typed_end("response.failed", error=error)
    for size in (1, 7, 100, len(body)):
        passed = send(cut(body, size), stream="typed")
        last = json.loads(passed.events[-1].data)
        assert last["type"] == "response.failed"
        assert last["response"]["error"] == {"code": "server_error", "message": SAD}
        assert last["response"]["usage"]["total_tokens"] == 14
        assert passed.metadata["terminal"] is True
        assert passed.metadata["error"] == "upstream_error"
    null = TYPED_BEGUN + typed_end("response.failed")
    assert send([null], stream="typed").body == null
    limited = typed_end("response.failed", error={"code": "rate_limit_exceeded", "message": "Slow down."})
    assert send([limited], stream="typed").body == limited


def test_a_cancelled_response_is_reported() -> None:
    passed = send([TYPED_BEGUN + typed_end(status="cancelled")], stream="typed")
    assert passed.body == TYPED_BEGUN + typed_end(status="cancelled")
    assert passed.metadata["error"] == "cancelled"


def test_an_error_event_of_the_responses_api_gets_the_envelope_that_makes_sdks_raise() -> None:
    flat = typed("error", code="server_error", message="boom", param=None, sequence_number=8)
    event = send([TYPED_BEGUN + flat], stream="typed").error
    assert event["error"]["code"] == event["code"] == "upstream_error"
    assert event["sequence_number"] == 8


def test_an_error_first_of_all_passes_in_the_apis_words() -> None:
    """Lua gets it too late to change the status."""
    passed = send([data(SHAPES["A"]) + DONE])
    assert error_of(passed)["message"] == SAD


LARGE = 200_000
PIECES = [1_000, 16_384, 65_600, 10_000_000]


@pytest.mark.parametrize("size", PIECES)
@pytest.mark.parametrize("behind", [{}, {"token_ids": [7] * 9_000}], ids=["last", "in front of token ids"])
@pytest.mark.parametrize("end", [b"\n\n" + DONE, b""], ids=["whole", "cut"])
def test_choice_that_was_broken_off_in_a_large_event_is_an_error(size: int, behind: dict[str, Any], end: bytes) -> None:
    logprobs = {"content": [{"token": '"finish_reason":"abort"', "logprob": -1.5}] * (LARGE // 50)}
    choice = {"index": 0, "delta": {"content": "x"}, "logprobs": logprobs, "finish_reason": "abort", **behind}
    event = data({"id": "chatcmpl-1", "choices": [choice]})
    passed = send(cut(event.removesuffix(b"\n\n") + end, size))
    assert passed.error["error"]["code"] == "upstream_error"
    assert passed.metadata["error"] == "upstream_error"
    assert passed.body.endswith(DONE)


@pytest.mark.parametrize("size", PIECES)
@pytest.mark.parametrize("finish", ["stop", None])
def test_words_of_a_large_event_are_no_abort(size: int, finish: str | None) -> None:
    words = '{"finish_reason":"abort"} "abort"'
    logprobs = {"content": [{"token": "abort", "logprob": -1.5, "bytes": None}] * (LARGE // 50)}
    choice = {"index": 0, "delta": {"content": words}, "logprobs": logprobs, "finish_reason": finish}
    sent = data({"id": "chatcmpl-1", "choices": [choice]}) + DONE
    passed = send(cut(sent, size))
    assert passed.body == sent
    assert passed.metadata == {"terminal": True}


@pytest.mark.parametrize("size", PIECES)
@pytest.mark.parametrize("end", [b"\n\n", b""], ids=["whole", "cut"])
@pytest.mark.parametrize(
    ("stream", "begin", "close"),
    [
        ("data_done", b'data: {"error":{"message":"', b'"}}'),
        ("data_done", b'data: {"error": "', b'"}'),
        ("typed", b'event: error\ndata: {"type":"error","message":"', b'"}'),
        ("anthropic", b'data: {"type": "error","error":{"message":"', b'"}}'),
    ],
)
def test_large_error_never_goes_on_as_it_is(stream: str, begin: bytes, close: bytes, size: int, end: bytes) -> None:
    passed = send(cut(begin + b"/secret/path " * (LARGE // 13) + close + end, size), stream=stream)
    assert b"/secret/path" not in passed.body
    assert passed.error
    assert passed.metadata["error"]
