"""The answer filter: which status a whole answer gets, and that nothing else about it changes."""

import json
from typing import Any, Final

import pytest

from aibrix_extproc.adapters.envoyproxy.spec import ANSWER_FILTER, STREAM_FILTER
from tests.lua.driver import Passed, cut, send, shared_metadata
from tests.lua.streams import CHAT_WITH_USAGE, COUNTED
from tests.lua.test_meter import ANSWERS
from tests.recorded.faults import FAULTS_OF_THE_ENGINE, FAULTS_OF_THE_REQUEST

LARGEST: Final = 262_144
WORDS: Final = 'He said "finish_reason":"abort" and {"error":{"code":500}} and "stop_reason"'


def chat(finish: str = "stop", text: str = WORDS, **more: Any) -> dict[str, Any]:
    """An answer as vLLM writes it."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "logprobs": None, "finish_reason": finish}
    return {"id": "chatcmpl-" + "0" * 38, "object": "chat.completion", "choices": [choice], **more}


def completion(finish: str) -> dict[str, Any]:
    choices = [{"index": at, "text": WORDS, "finish_reason": finish} for at in range(2)]
    return {"id": "cmpl-0", "object": "text_completion", "choices": choices, "usage": {"prompt_tokens": 1}}


def message(**more: Any) -> dict[str, Any]:
    content = [{"type": "text", "text": WORDS}]
    return {"id": "chatcmpl-" + "0" * 38, "type": "message", "role": "assistant", "content": content, **more}


def passed(value: object, *, size: int = 100_000, length: int | None = None, **options: Any) -> Passed:
    body = value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()
    headers = {"content-length": str(len(body) if length is None else length)} | options.pop("headers", {})
    options = {"content_type": "application/json"} | options
    out = send(cut(body, size), script=ANSWER_FILTER, headers=headers, **options)
    assert out.body == body
    return out


def status(value: object, **options: Any) -> str:
    return passed(value, **options).headers[":status"]


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize(
    "answer",
    [chat("abort"), completion("abort"), message(), chat("abort", token_ids=[1] * 20_000)],
    ids=["chat", "completion", "message", "with-token-ids"],
)
def test_half_an_answer_is_a_503(answer: dict[str, Any], size: int) -> None:
    assert status(answer, size=size) == "503"


@pytest.mark.parametrize(
    "answer",
    [chat(), chat("length"), chat("tool_calls"), completion("stop"), message(stop_reason="end_turn"),
     {"id": "resp_0", "error": None, "status": "incomplete"}, {"id": "embd-0", "data": []}, {"text": "abort"},
     {"error": None}, {"error": ""}, {"error": {}, "x": 1}, [1], {"choices": [{"finish_reason": "abort"}]}],
    ids=["chat", "length", "tools", "completion", "message", "response", "embedding", "transcript", "no-error",
         "empty-error", "no-code", "list", "no-id"],
)  # fmt: skip
def test_other_answers_keep_theirs(answer: object) -> None:
    assert status(answer) == "200"


TOOLS: tuple[dict[str, Any], ...] = (
    {"finish_reason": "abort"}, {"choices": [{"finish_reason": "abort"}]}, {"stop_reason": 1}, {"a": [["abort"]]},
)  # fmt: skip


@pytest.mark.parametrize("arguments", TOOLS, ids=str)
def test_the_arguments_of_a_tool_say_nothing_about_the_answer(arguments: dict[str, Any]) -> None:
    content = [{"type": "tool_use", "id": "t", "name": "f", "input": arguments}]
    assert status(message(content=content, stop_reason="tool_use")) == "200"
    assert status(message(content=content)) == "503"
    assert status(chat(tool=[{"x": arguments}])) == "200"


@pytest.mark.parametrize("answer", [*ANSWERS.values()], ids=ANSWERS)
def test_whole_answers_are_metered_in_the_cluster(answer: dict[str, Any]) -> None:
    assert passed(answer, size=1000).metadata == COUNTED


def test_large_answers_and_streams_are_left_to_the_filter_in_the_route() -> None:
    assert passed(chat(usage={"prompt_tokens": 1}), length=LARGEST + 1).metadata == {}
    assert passed(CHAT_WITH_USAGE, content_type="text/event-stream").metadata == {}
    told = shared_metadata(STREAM_FILTER, aibrix_usage={"report": "input_tokens=1"})
    assert (
        send(
            [json.dumps(chat(usage={"prompt_tokens": 5})).encode()], content_type="application/json", shared=told
        ).metadata
        == {}
    )


def test_what_is_no_success_is_not_metered() -> None:
    assert passed(chat("abort", usage={"prompt_tokens": 1})).metadata == {}
    assert passed({"error": {"message": "m", "code": 400}, "usage": {"prompt_tokens": 1}}).metadata == {}


@pytest.mark.parametrize(
    ("error", "expected"),
    [({"error": {"message": "n" * 5000, "type": "BadRequestError", "param": "n", "code": 400}}, "400"),
     ({"error": {"message": 'say "code":404', "code": 503}}, "503"),
     ({"error": {"message": "m", "code": "model_not_found"}}, "500"), ({"error": {"code": 4000}}, "500"),
     ({"error": {"code": 200}}, "500"), ({"error": "Unauthorized"}, "500"),
     ({"object": "error", "message": "m", "code": 422}, "422")],
    ids=["long", "words", "name", "no-status", "good-status", "text", "flat"],
)  # fmt: skip
def test_an_error_that_comes_as_a_success_gets_its_status(error: dict[str, Any], expected: str) -> None:
    assert status(error) == expected
    assert status(json.dumps(error, indent=1).encode(), size=7) == expected


@pytest.mark.parametrize(
    "options",
    [{"status": "201"}, {"status": "404"}, {"content_type": "text/plain"},
     {"content_type": "text/event-stream"},
     {"headers": {"content-encoding": "gzip"}}, {"length": LARGEST + 1}, {"headers": {"content-length": "x"}},
     {"headers": {"content-length": "-1"}, "ending": "reset"}],
    ids=str,
)  # fmt: skip
def test_what_is_no_whole_json_of_a_success_passes(options: dict[str, Any]) -> None:
    assert status(chat("abort"), **options) == options.get("status", "200")


@pytest.mark.parametrize("body", [b"", b"{", b'{"error":{"code":4', b"\xff\x00" * 300], ids=repr)
def test_what_cannot_be_read_does_no_harm(body: bytes) -> None:
    assert status(body) in ("200", "500")


def candidates(*addresses: str) -> Any:
    """The metadata of a request with these candidates."""
    return shared_metadata(ANSWER_FILTER, envoy_lb={"x-gateway-destination-endpoint": ",".join(addresses)})


def failure(message: str, kind: str = "InternalServerError") -> dict[str, Any]:
    """A 500 as vLLM writes it."""
    return {"error": {"message": message, "type": kind, "param": None, "code": 500}}


@pytest.mark.parametrize(
    "answer", [chat("abort"), completion("abort"), message()], ids=["chat", "completion", "message"]
)
@pytest.mark.parametrize(
    ("addresses", "expected"),
    [(("a:1",) * 4, "530"), (("a:1",), "530"), (("a:1", "b:1", "a:1", "b:1"), "503"), (("a:1", "a:11"), "503"),
     (("a:1", "a:1", "b:1", "a:1"), "503"), ((), "503")],
    ids=["alone", "once", "two", "longer-name", "one-other", "unknown"],
)  # fmt: skip
def test_half_an_answer_of_the_only_engine_is_not_asked_for_again(
    answer: dict[str, Any], addresses: tuple[str, ...], expected: str
) -> None:
    assert status(answer, shared=candidates(*addresses) if addresses else None) == expected


@pytest.mark.parametrize("error", FAULTS_OF_THE_REQUEST)
def test_500_that_the_request_is_to_blame_for_is_not_tried_again(error: str) -> None:
    assert status(failure(error), status="500") == "520"


def test_500_in_anthropics_shape_is_the_same() -> None:
    error = {"type": "error", "error": {"type": "api_error", "message": "Internal server error"}}
    assert status(error, status="500") == "520"
    error["error"] = {"type": "overloaded_error", "message": "Internal server error"}
    assert status(error, status="500") == "500"


@pytest.mark.parametrize(
    "error",
    ["EngineCore encountered an issue. See stack trace (above) for the root cause.",
     "The server had an error while processing your request.", "CUDA error: out of memory", "",
     "Internal server error, and more", *FAULTS_OF_THE_ENGINE],
    ids=["dead", "dead-033", "memory", "empty", "longer", "nothing-there", "torch"],
)  # fmt: skip
def test_500_of_another_kind_is_tried_at_one_more_engine(error: str) -> None:
    request = candidates("a:1", "b:1")
    assert status(failure(error), status="500", shared=request) == "500"
    assert status(failure(error), status="500", shared=request) == "520"
    assert status(failure(error), status="500", shared=request) == "520"


def test_500_that_is_no_json_counts_too() -> None:
    request = candidates("a:1", "b:1")
    assert status(b"Internal Server Error", status="500", content_type="text/plain", shared=request) == "500"
    assert status(b"", status="500", length=LARGEST + 1, shared=request) == "520"


def test_500_that_is_packed_counts_too() -> None:
    request, packed = candidates("a:1", "b:1"), {"content-encoding": "gzip"}
    assert status(failure("recursion"), status="500", headers=packed, shared=request) == "500"
    assert status(failure("recursion"), status="500", headers=packed, shared=request) == "520"


def test_words_of_another_kind_of_error_are_no_fault_of_the_request() -> None:
    assert status(failure("Cannot connect to host db:1", kind="Oops"), status="500") == "500"
    assert status(failure("Cannot connect to host db:1"), status="502") == "502"


@pytest.mark.parametrize("behind", [0, 10, 3_900, 4_000, 4_090, 4_200, 50_000])
@pytest.mark.parametrize(
    "text", ["x" * 30_000, '"usage":{"prompt_tokens":9},' * 2_000, "\\" * 20_001], ids=["x", "key", "\\"]
)
def test_usage_of_a_long_answer_is_its_own_wherever_it_stands(text: str, behind: int) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    deep = [{"tool": {"usage": {"prompt_tokens": 99, "total_tokens": 99}}}]
    answer = chat(text=text, more=deep, usage=usage, later="y" * behind, tail=deep)
    assert passed(answer).metadata == {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
    del answer["usage"]
    assert passed(answer).metadata == {"unmetered": "no_usage"}
