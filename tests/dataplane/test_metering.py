"""Answers are metered by what they are: wherever usage stands, and whatever the request seemed to ask for."""

import json
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.dataplane.engines import EngineSpec
from tests.dataplane.raw import JSON
from tests.dataplane.scripted import scripted
from tests.dataplane.stack import METERED, METERED_IN_ROUTE, Stack, running
from tests.dataplane.test_strange_engines import SSE, chunk, chunked, plain
from tests.waiting import eventually

pytestmark = pytest.mark.slow

FORGED: Final = {"usage": {"input_tokens": 10**6, "prompt_tokens": 10**6, "completion_tokens": 1, "output_tokens": 1}}
USAGE: Final = {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}
TYPED_USAGE: Final = {"input_tokens": 11, "output_tokens": 3, "total_tokens": 14}


def answer(value: object) -> bytes:
    return plain("200 OK", "application/json", json.dumps(value, separators=(",", ":")).encode())


def chat(finish: str = "stop", **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "x" * 4000}
    choices = [{"index": 0, "message": message, "finish_reason": finish}]
    return {"id": "chatcmpl-1", "object": "chat.completion", "choices": choices, "usage": USAGE, **more}


def message(tool: object, **more: Any) -> dict[str, Any]:
    content = [{"type": "text", "text": "x" * 400}, {"type": "tool_use", "id": "t", "name": "f", "input": tool}]
    return {"id": "chatcmpl-1", "type": "message", "role": "assistant", "content": content, "stop_reason": "tool_use",
            "usage": {"input_tokens": 11, "output_tokens": 3}, **more}  # fmt: skip


CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
ANSWERS: Final[dict[str, tuple[str, bytes]]] = {
    "token ids": (CHAT, answer(chat(prompt_token_ids=list(range(9000))))),
    "prompt logprobs": (CHAT, answer(chat(prompt_logprobs=[{"1": {"decoded_token": '"usage":{'}}] * 9000))),
    "half a megabyte": (CHAT, answer(chat(prompt_text="y" * 500_000))),
    "long user": (RESPONSES, answer({"id": "resp_1", "tools": [FORGED], "usage": TYPED_USAGE, "user": "u" * 5000})),
    "tool": (MESSAGES, answer(message(FORGED))),
    "a stream that nobody asked for": (
        CHAT, chunked(SSE, chunk("hi"), chunk(None, usage=USAGE), b"data: [DONE]\n\n"),
    ),
}  # fmt: skip
NOT_METERED: Final[dict[str, tuple[str, bytes, str]]] = {
    "none": (CHAT, answer(chat(usage=None)), "no_usage"),
    "text": (CHAT, plain("200 OK", "text/plain", b"hello"), "not_json"),
    "forged": (MESSAGES, answer(message(FORGED, usage=None)), "no_usage"),
    "stream": (CHAT, chunked(SSE, chunk("hi"), chunk(None), b"data: [DONE]\n\n"), "no_usage"),
}


@pytest.fixture(scope="module", params=[METERED, METERED_IN_ROUTE], ids=["in-cluster", "in-route"])
def odd(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A metered stack with an engine that answers by script."""
    stack = Stack(
        tmp_path_factory.mktemp("metering"),
        (EngineSpec("good", ("good-m",)),),
        serve_arguments=("--metering",),
        envoy_options=request.param,
    )
    scripts = {name: found[1] for name, found in (ANSWERS | NOT_METERED).items()}
    with scripted(scripts) as port, running(stack) as started:
        started.adopt_engine(EngineSpec("odd", ("odd-m",)), port)
        started.write_fleet()
        started.wait_models({"good-m", "odd-m"})
        yield started


def ask(odd: Stack, path: str, script: str) -> Any:
    asked = {"model": "odd-m", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 9, "input": "hello"}
    return odd.send("POST", path, json.dumps(asked).encode(), JSON | {"x-script": script})


@pytest.mark.parametrize("name", ANSWERS)
def test_usage_is_counted_wherever_it_stands(odd: Stack, name: str) -> None:
    path, _ = ANSWERS[name]
    total = odd.worker.total

    def counted() -> tuple[float, float]:
        kinds = ("input", "output")
        found = [total("aibrix_extproc_tokens_total", model="odd-m", kind=kind) for kind in kinds]
        return found[0], found[1]

    before = counted()
    assert ask(odd, path, name).status == 200
    expected = (before[0] + 11, before[1] + 3)
    eventually(lambda: counted() != before, "the answer is counted")
    assert counted() == expected


@pytest.mark.parametrize("name", NOT_METERED)
def test_what_told_no_usage_is_counted_by_reason(odd: Stack, name: str) -> None:
    path, _, reason = NOT_METERED[name]

    def missed() -> float:
        return odd.worker.total("aibrix_extproc_unmetered_total", reason=reason)

    before = missed()
    assert ask(odd, path, name).status == 200
    eventually(lambda: missed() == before + 1, "the answer is counted as one without usage")


def test_the_filters_never_failed(odd: Stack) -> None:
    assert "script log" not in odd.envoy.output()
    assert not any(odd.envoy_stats("lua.errors").values())
