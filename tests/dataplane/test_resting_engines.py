"""Engines that rest or are slow to answer polls: nobody hangs at the first, and the second go on serving."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pytest

from tests.dataplane.engines import EngineSpec
from tests.dataplane.openai_error import assert_openai_error
from tests.dataplane.raw import JSON
from tests.dataplane.stack import Stack
from tests.waiting import eventually

PATH: Final = "/v1/chat/completions"
CHAT: Final[dict[str, Any]] = {"model": "chat-m", "messages": [{"role": "user", "content": "hello"}]}
TWO: Final = (EngineSpec("e0", ("chat-m",)), EngineSpec("e1", ("chat-m",)))
REST: Final = ("/pause?mode=abort", "/pause?mode=wait", "/sleep?level=1")

pytestmark = pytest.mark.slow


def health(stack: Stack, name: str) -> str:
    fleet = json.loads(stack.worker.admin("/fleet").body)
    return next(str(one["health"]) for one in fleet["endpoints"] if one["name"] == name)


@pytest.mark.parametrize("call", REST)
def test_requests_that_came_to_an_engine_before_its_rest_was_noticed_are_answered_by_another(
    new_stack: Callable[..., Stack], call: str
) -> None:
    stack = new_stack(TWO)
    assert stack.engine("e0").post(call) == 200
    with stack.client(max_retries=2) as client, ThreadPoolExecutor(16) as threads:
        started = time.monotonic()
        asked = [threads.submit(client.chat.completions.create, **CHAT, max_tokens=4) for _ in range(16)]
        reasons = {one.result().choices[0].finish_reason for one in asked}
    assert reasons == {"length"}
    assert time.monotonic() - started < 60  # of 600
    assert stack.engine("e0").stats()["finished"]["length"] == 0


def test_requests_at_the_only_engine_that_rests_are_a_503_that_says_when_to_come_back(
    new_stack: Callable[..., Stack],
) -> None:
    stack = new_stack(TWO[:1])
    assert stack.engine("e0").post("/sleep?level=1") == 200
    started = time.monotonic()
    answer = stack.post(PATH, CHAT)
    assert_openai_error(answer, 503, code="model_not_ready")
    assert time.monotonic() - started < 60  # of 600
    assert answer.header("retry-after") == "5"


def test_requests_that_a_pause_froze_go_on_when_it_ends(new_stack: Callable[..., Stack]) -> None:
    stack = new_stack(TWO[:1])
    engine = stack.engine("e0")
    pace = {"x-sim-itl-ms": "50", "x-sim-tokens": "40"}
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(stack.send, "POST", PATH, json.dumps(CHAT).encode(), JSON | pace)
        eventually(lambda: engine.stats()["running"] == 1, "the engine works on it")
        # Looks that find the engine awake while it works on the request: it is no request that came too late.
        seen = len(engine.get("/sim/requests?path=/is_sleeping&body=0")["requests"])
        eventually(
            lambda: len(engine.get("/sim/requests?path=/is_sleeping&body=0")["requests"]) > seen + 1, "two more looks"
        )
        engine.post("/pause?mode=keep")
        eventually(lambda: health(stack, "e0") == "asleep", "the pause is noticed")
        assert_openai_error(stack.post(PATH, CHAT), 503, code="model_not_ready")
        engine.post("/resume")
        assert asked.result().json()["choices"][0]["finish_reason"] == "stop"


def test_engine_whose_polls_are_slow_goes_on_serving(new_stack: Callable[..., Stack]) -> None:
    stack = new_stack(TWO[:1], serve_arguments=("--fleet-poll-timeout-seconds", "0.2"))
    engine = stack.engine("e0")
    for path in ("/health", "/v1/models"):
        engine.fail("slow-headers", path=path, seconds=600)
    eventually(lambda: health(stack, "e0") == "silent", "no poll is answered any more")
    with stack.client() as client:
        assert client.chat.completions.create(**CHAT).choices[0].finish_reason == "stop"
        # The answer is proof of life, whatever the polls say.
        eventually(lambda: health(stack, "e0") == "ready", "the engine counts as ready")
        assert client.chat.completions.create(**CHAT).choices[0].finish_reason == "stop"


def test_engine_that_refuses_connections_is_out_with_the_first_request_that_finds_it_so(
    new_stack: Callable[..., Stack],
) -> None:
    stack = new_stack(TWO, serve_arguments=("--fleet-poll-seconds", "600"))
    stack.kill_engine("e0")
    with stack.client() as client:
        for _ in range(4):
            client.chat.completions.create(**CHAT)
    eventually(lambda: health(stack, "e0") == "unreachable", "it is looked at without waiting for its time")
