"""Acceptance 7.7 with engines that fail on demand: what clients see is OpenAI's, and as little of it as possible."""

import asyncio
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

from tests.dataplane.engines import Engine, EngineSpec, freeze
from tests.dataplane.openai_error import assert_openai_error
from tests.dataplane.raw import JSON
from tests.dataplane.stack import Stack
from tests.waiting import eventually, until

PATH = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hello"}]
IN_TURN = {"routing-strategy": "round-robin"}  # the default avoids an engine that has failed
CHAT: dict[str, Any] = {"model": "chat-m", "messages": HELLO, "max_tokens": 4}
ONE = (EngineSpec("e0", ("chat-m",)),)
TWO = (EngineSpec("e0", ("chat-m",)), EngineSpec("e1", ("chat-m",)))
SMALL = ("--max-num-seqs", "1", "--max-num-queued-reqs", "0")


def ask(client: openai.OpenAI, times: int, **fields: Any) -> None:
    """So many good answers in a row."""
    for _ in range(times):
        assert client.chat.completions.create(**CHAT, **fields).choices


@pytest.mark.slow
def test_err_01_full_queues_are_a_503_and_the_sdks_retry_succeeds(new_stack: Callable[..., Stack]) -> None:
    stack = new_stack(tuple(EngineSpec(name, ("chat-m",), SMALL) for name in ("e0", "e1")))
    with stack.client(max_retries=2) as client:
        pace = {"x-sim-itl-ms": "50", "x-sim-tokens": "40"}
        held = [client.chat.completions.create(model="chat-m", messages=HELLO, stream=True, extra_headers=pace)
                for _ in range(2)]  # fmt: skip
        refused = stack.post(PATH, CHAT)
        assert_openai_error(refused, 503, code="overloaded")
        before = stack.worker.total("aibrix_extproc_problems_total", problem="overloaded")
        ask(client, 1)
        assert stack.worker.total("aibrix_extproc_problems_total", problem="overloaded") > before
        assert all(list(stream)[-1].choices[0].finish_reason for stream in held)


@pytest.mark.parametrize(
    "fault",
    [{"fault": "status", "code": 503, "message": "The engine is currently busy"},
     {"fault": "status", "code": 503, "shape": "C", "message": "The model is currently scaling."},
     {"fault": "reset-before-headers"}],
    ids=["err_02-busy", "err_22-scaling", "err_04-reset"],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_err_02_04_22_another_engine_answers_instead(
    chat_engines: list[Engine], client: openai.OpenAI, fault: dict[str, Any], stream: bool
) -> None:
    broken = chat_engines[0]
    broken.fail(**fault)
    broken.forget()
    for _ in range(6):
        answer = client.chat.completions.create(**CHAT, stream=stream, extra_headers=IN_TURN)
        assert list(answer)[-1].choices[0].finish_reason if stream else answer.choices
    assert broken.requests(), "the broken engine was never picked"


@pytest.mark.slow
def test_err_03_no_ready_engine_is_a_503_at_once(new_stack: Callable[..., Stack]) -> None:
    stack = new_stack(TWO)
    stack.kill_engine("e0")
    stack.kill_engine("e1")
    for _ in range(5):
        assert_openai_error(stack.send("POST", PATH, json.dumps(CHAT).encode(), JSON, timeout=30.0), 503)
    eventually(
        lambda: stack.post(PATH, CHAT).json()["error"]["code"] == "model_not_ready", "the dead engines are noticed"
    )
    with pytest.raises(openai.InternalServerError) as caught, stack.client() as client:
        client.chat.completions.create(**CHAT, stream=True)
    assert_openai_error(caught.value, 503, code="model_not_ready", contains="`chat-m`")
    stack.restart_engine("e0")
    eventually(lambda: stack.post(PATH, CHAT).status == 200, "the engine that came back is used")


@pytest.mark.parametrize(
    ("fault", "stream"),
    [("reset-mid-stream;after=3", True), ("close-mid-stream;after=3;framing=broken", True),
     ("reset-mid-stream", False), ("close-mid-stream", False)],
    ids=["reset-stream", "broken-stream", "reset-body", "short-body"],
)  # fmt: skip
def test_err_05_an_answer_cut_short_raises(client: openai.OpenAI, fault: str, stream: bool) -> None:
    with pytest.raises(openai.APIError):  # noqa: PT012 - creating may succeed, reading must not
        answer = client.chat.completions.create(**CHAT, stream=stream, extra_headers={"x-sim-fault": fault})
        if stream:
            list(answer)


def test_err_05_a_stream_that_ends_early_but_cleanly_raises(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(**CHAT, stream=True, extra_headers={"x-sim-fault": "close-mid-stream"})
    with pytest.raises(openai.APIError):
        list(stream)


def test_err_06_a_500_of_one_engine_is_tried_elsewhere(chat_engines: list[Engine], client: openai.OpenAI) -> None:
    chat_engines[0].fail("status", code=500)
    ask(client, 6)


@pytest.mark.parametrize("shape", list("ABCDEFG"))
@pytest.mark.parametrize(("code", "status"), [(500, 500), (503, 503), (502, 502), (504, 504), (501, 400), (401, 500)])
def test_err_06_13_every_shape_of_engine_failure_becomes_openais(
    stack: Stack, shape: str, code: int, status: int
) -> None:
    headers = {"x-sim-fault": f"status;code={code};shape={shape};message=Traceback in /usr/lib/vllm/core.py line 3"}
    error = assert_openai_error(stack.post(PATH, CHAT, **headers), status)
    assert error["type"] == ("server_error" if status >= 500 else "invalid_request_error")


@pytest.mark.parametrize("shape", list("ABCDEFG"))
@pytest.mark.parametrize("code", [400, 404, 405, 413, 422, 429])
def test_err_13_every_shape_of_engine_refusal_becomes_openais(stack: Stack, shape: str, code: int) -> None:
    headers = {"x-sim-fault": f"status;code={code};shape={shape};message=something is wrong"}
    answer = stack.post(PATH, CHAT, **headers)
    assert 400 <= answer.status < 500
    assert_openai_error(answer, answer.status)


@pytest.mark.parametrize("fault", ["status;code=500", "status;code=503", "html-502", "reset-before-headers"])
def test_err_15_19_a_stream_that_fails_before_it_begins_is_json(client: openai.OpenAI, fault: str) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(**CHAT, stream=True, extra_headers={"x-sim-fault": fault})
    assert_openai_error(caught.value, caught.value.status_code)
    assert b"<html" not in caught.value.response.content.lower()


def test_err_15_malformed_json_of_an_engine_raises(client: openai.OpenAI) -> None:
    with pytest.raises((openai.APIError, json.JSONDecodeError)):
        client.chat.completions.create(**CHAT, extra_headers={"x-sim-fault": "malformed-json"})


def test_slow_headers_are_waited_for(client: openai.OpenAI) -> None:
    ask(client, 1, extra_headers={"x-sim-fault": "slow-headers;seconds=0.2"})


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["stall", "stall-mid-stream;after=2"])
def test_err_07_a_client_that_gives_up_frees_the_engine(stack: Stack, fault: str) -> None:
    with stack.client(timeout=0.5) as client, pytest.raises(openai.APITimeoutError):  # noqa: PT012
        headers = {"x-sim-fault": fault, "x-stainless-read-timeout": "600"}  # else the gateway may give up first
        stream = client.chat.completions.create(**CHAT, stream=True, extra_headers=headers)
        list(stream)
    eventually(lambda: stack.worker.total("aibrix_extproc_in_flight") == 0, "nothing is counted any more")
    active = "cluster.engines.upstream_rq_active"
    eventually(lambda: stack.envoy_stats(f"^{active}$")[active] == 0, "Envoy has let go of the engine")


@pytest.mark.slow
def test_err_07_the_engines_deadline_is_a_second_behind_the_sdks(stack: Stack) -> None:
    started = time.monotonic()
    answer = stack.post(PATH, CHAT, x_sim_fault="stall", x_stainless_read_timeout="0.5")
    assert_openai_error(answer, 504, code="timeout")
    assert 1.4 < time.monotonic() - started < 60  # of the 600 s without the header


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_err_07_an_sdk_whose_time_is_over_raises_its_own_exception(stack: Stack, stream: bool) -> None:
    async with stack.async_client(timeout=0.4) as client:

        async def all_raise() -> bool:
            """A client that stands still for a second may get the gateway's 504 first."""
            calls = (
                client.chat.completions.create(**CHAT, stream=stream, extra_headers={"x-sim-fault": "stall"})
                for _ in range(20)
            )
            failures = await asyncio.gather(*calls, return_exceptions=True)
            return [type(one) for one in failures] == [openai.APITimeoutError] * 20

        await until(all_raise, "each of them is the SDK's own")


@pytest.mark.slow
def test_err_07_an_engine_that_hangs_is_a_504(new_stack: Callable[..., Stack]) -> None:
    stack = new_stack(ONE, envoy_options={"stream_idle_timeout": 1.0})
    assert_openai_error(stack.post(PATH, CHAT, x_sim_fault="stall"), 504, code="timeout")
    assert_openai_error(stack.post(PATH, CHAT | {"stream": True}, x_sim_fault="stall"), 504, code="timeout")


@pytest.mark.slow
def test_err_09_a_stuck_processor_is_a_503_within_its_time(new_stack: Callable[..., Stack]) -> None:
    stack = new_stack(ONE, envoy_options={"message_timeout": 0.5})
    freeze(stack.worker.child.pid)
    answer = stack.send("POST", PATH, json.dumps(CHAT).encode(), JSON, timeout=30.0)
    assert_openai_error(answer, 503, code="gateway_unavailable")


@pytest.mark.slow
@pytest.mark.parametrize("call", ["/pause?mode=keep", "/sleep?level=1&mode=keep"], ids=["pause", "sleep"])
def test_err_16_a_halted_engine_is_not_picked(new_stack: Callable[..., Stack], call: str) -> None:
    stack = new_stack(TWO)
    halted = stack.engine("e0")
    assert halted.post(call) == 200
    eventually(lambda: ready(stack) == {"e1"}, "the halted engine is noticed")
    seen = len(halted.requests(PATH))
    with stack.client() as client:
        ask(client, 6)
    assert len(halted.requests(PATH)) == seen
    assert halted.post("/resume" if "pause" in call else "/wake_up") == 200
    eventually(lambda: ready(stack) == {"e0", "e1"}, "the engine is picked again")


@pytest.mark.slow
def test_err_16_an_answer_that_a_pause_aborted_is_asked_for_again(new_stack: Callable[..., Stack]) -> None:
    stack = new_stack(TWO)
    halted = stack.engine("e0")
    pace = {"x-sim-itl-ms": "50", "x-sim-tokens": "100"}
    body = json.dumps({"model": "chat-m", "messages": HELLO}).encode()

    def looks() -> int:
        return len(halted.get("/sim/requests?path=/is_sleeping&body=0")["requests"])

    with ThreadPoolExecutor(2) as threads:
        asked = [threads.submit(stack.send, "POST", PATH, body, JSON | pace) for _ in range(2)]
        eventually(lambda: halted.stats()["running"] == 1, "the engine works on one of them")
        # Looks that find the engine awake while it works on the request: it is no request that came too late.
        seen = looks()
        eventually(lambda: looks() > seen + 1, "two more looks")
        halted.post("/pause?mode=abort")
        answers = [one.result() for one in asked]
    assert [one.status for one in answers] == [200, 200], [one.body for one in answers]
    reasons = [one.json()["choices"][0]["finish_reason"] for one in answers]
    assert reasons == ["stop", "stop"]


def ready(stack: Stack) -> set[str]:
    fleet = json.loads(stack.worker.admin("/fleet").body)
    return {one["name"] for one in fleet["endpoints"] if one["health"] == "ready"}


@pytest.mark.slow
def test_err_20_a_silent_stream_gets_nothing_that_breaks_clients(stack: Stack) -> None:
    fault = "stall-mid-stream;after=2;seconds=1"
    answer = stack.send("POST", PATH, json.dumps(CHAT | {"stream": True}).encode(), JSON | {"x-sim-fault": fault})
    lines = [line for line in answer.body.split(b"\n") if line]
    assert all(line.startswith((b"data: {", b"data: [DONE]", b":")) for line in lines)
    assert lines[-1] == b"data: [DONE]"


@pytest.mark.parametrize("said", ["", "0", "-1", "0.5", "120", "999999", "soon", "Wed, 21 Oct 2026 07:28:00 GMT"])
@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
def test_err_21_an_engine_never_makes_clients_wait_for_ever_or_come_back_at_once(
    stack: Stack, code: int, said: str
) -> None:
    answer = stack.post(PATH, CHAT, x_sim_fault=f"status;code={code};retry_after={said}")
    assert_openai_error(answer, code)  # which looks at the header
    assert answer.header("retry-after") or code not in (429, 503)


def test_an_error_in_mid_stream_raises_in_the_sdk(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(**CHAT, stream=True, extra_headers={"x-sim-fault": "error-event;after=2"})
    with pytest.raises(openai.APIError):
        list(stream)
