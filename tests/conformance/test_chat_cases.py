"""What a deployment may do differently without being wrong: answer for an alias, call no tools, never stop talking."""

import itertools
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from aibrix_extproc.conformance.case import Need, Result, Verdict
from aibrix_extproc.conformance.run import Run
from aibrix_extproc.conformance.table import CASES
from tests.conformance.fake import a_deployment, a_target, deployment

ASKED, LISTED = "org/chat", "org/second"
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


def outcome(case: str, status: int, value: object) -> Result:
    """Of one case with a deployment that answers everything like this."""
    reply = (status, {"content-type": "application/json", "x-request-id": "r"}, json.dumps(value).encode())
    with deployment(lambda method, path: reply) as url:
        run = Run(a_target(url), a_deployment(), concurrency=1, on_result=lambda result: None)
        (found,) = run.over([one for one in CASES if one.id == case])
    return found


def a_completion(**fields: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "x", "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": fields.pop("finish_reason", "stop"), "logprobs": None}
    made = {"id": "c", "object": "chat.completion", "created": 1, "model": ASKED, "choices": [choice], "usage": USAGE}
    return made | fields


def refusal(param: str) -> dict[str, Any]:
    return {
        "error": {"message": "no", "type": "invalid_request_error", "param": param, "code": "unsupported_parameter"}
    }


@pytest.mark.parametrize(
    ("model", "verdict"), [(ASKED, Verdict.PASS), (LISTED, Verdict.PASS), ("org/unheard-of", Verdict.FAIL)]
)
def test_completion_may_name_any_listed_model(model: str, verdict: Verdict) -> None:
    assert outcome("CHAT-01", 200, a_completion(model=model)).verdict is verdict


@pytest.mark.parametrize(
    ("status", "value", "verdict"),
    [
        (400, refusal("tool_choice"), Verdict.SKIP),
        (400, {"detail": "in words that are nobody's"}, Verdict.SKIP),
        (501, {}, Verdict.SKIP),
        (404, {}, Verdict.FAIL),
        (500, refusal("tool_choice"), Verdict.FAIL),
    ],
)
@pytest.mark.parametrize("case", ["CHAT-14", "CHAT-15"])
def test_model_without_images_or_tools_is_passed_over_whatever_its_words(
    case: str, status: int, value: object, verdict: Verdict
) -> None:
    assert outcome(case, status, value).verdict is verdict


def test_features_that_are_all_refused_are_a_failure() -> None:
    refused = outcome("REQ-30", 400, refusal("tool_choice"))  # for n and logprobs already
    assert refused.verdict is Verdict.FAIL


@pytest.mark.parametrize(("reason", "verdict"), [("length", Verdict.SKIP), ("stop", Verdict.FAIL)])
def test_model_that_never_ends_its_answer_is_passed_over(reason: str, verdict: Verdict) -> None:
    assert outcome("CHAT-07", 200, a_completion(finish_reason=reason)).verdict is verdict


@pytest.mark.parametrize(
    ("ended", "arguments", "verdict"),
    [("length", '{"ci', Verdict.SKIP), ("tool_calls", '{"ci', Verdict.FAIL), ("tool_calls", "{}", Verdict.PASS)],
)
def test_call_of_a_tool_that_came_to_the_limit_of_tokens_is_passed_over(
    ended: str, arguments: str, verdict: Verdict
) -> None:
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": arguments}}
    choices = [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": ended}]
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": ASKED, "choices": choices}
    events = f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode()
    with deployment(lambda method, path: (200, {"content-type": "text/event-stream"}, events)) as url:
        run = Run(a_target(url), a_deployment(), concurrency=1, on_result=lambda result: None)
        (found,) = run.over([one for one in CASES if one.id == "CHAT-15"])
    assert found.verdict is verdict


@pytest.mark.slow
@pytest.mark.parametrize(("hiccups", "verdict"), [(0, Verdict.PASS), (2, Verdict.PASS), (100, Verdict.FAIL)])
def test_chat_09_a_pause_now_and_then_is_forgiven_but_tokens_that_are_held_back_are_not(
    hiccups: int, verdict: Verdict
) -> None:
    asked = itertools.count()

    def tokens(_method: str, _path: str) -> tuple[int, dict[str, str], Iterator[bytes]]:
        number = next(asked)
        is_single, held = number % 2 == 0, number // 2 < hiccups  # each try asks for one token first
        return 200, {"content-type": "text/event-stream"}, paced(1 if is_single else 8, held=held)

    with deployment(tokens) as url:
        run = Run(a_target(url), a_deployment(), concurrency=1, on_result=lambda result: None)
        (found,) = run.over([one for one in CASES if one.id == "CHAT-09"])
    assert found.verdict is verdict, found


def paced(count: int, *, held: bool) -> Iterator[bytes]:
    """A stream of so many tokens, each after its time or all of them at the end."""
    waiting = b""
    for _ in range(count):
        time.sleep(0.05)  # the pace is what is tested
        waiting += b"data: {}\n\n"
        if not held:
            yield waiting
            waiting = b""
    yield waiting + b"data: [DONE]\n\n"


def test_deployment_without_the_responses_api_skips_its_cases_and_says_so() -> None:
    has = a_deployment()
    lacks = a_deployment(models={need: model for need, model in has.models.items() if need is not Need.RESPONSES})
    with deployment(lambda method, path: (500, {}, b"")) as url:
        run = Run(a_target(url), lacks, concurrency=1, on_result=lambda result: None)
        found = run.over([one for one in CASES if one.id.startswith("RESP-")])
    assert {one.verdict for one in found} == {Verdict.SKIP}
    assert all("Responses API" in one.reason for one in found)
