"""What an exchange costs between Envoy and the worker, and that each one is counted once."""

import json
from collections.abc import Iterable
from typing import Any

import openai
import pytest

from tests.dataplane.raw import JSON
from tests.dataplane.stack import Stack
from tests.waiting import eventually

PATH = "/v1/chat/completions"
CHAT: dict[str, Any] = {"model": "chat-m", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
SENT = "http.openai.ext_proc.stream_msgs_sent"
RECEIVED = "http.openai.ext_proc.stream_msgs_received"


def messages(stack: Stack) -> tuple[int, int]:
    found = stack.envoy_stats(r"^http\.openai\.ext_proc\.stream_msgs_")
    return found[SENT], found[RECEIVED]


def finished(stack: Stack) -> float:
    return stack.worker.total("aibrix_extproc_exchanges_total")


def wait_idle(stack: Stack) -> None:
    eventually(lambda: json.loads(stack.worker.admin("/readyz").body)["streams"] == 0, "no exchange is running")
    assert stack.worker.total("aibrix_extproc_in_flight") == 0


@pytest.mark.parametrize("tokens", [1, 200])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_chat_costs_three_messages_whatever_its_length(stack: Stack, stream: bool, tokens: int) -> None:
    wait_idle(stack)
    sent, received = messages(stack)
    body = CHAT | {"max_tokens": tokens, "stream": stream}
    pace = {"x-sim-tokens": str(tokens), "x-sim-tokens-per-write": "1"}
    answer = stack.send("POST", PATH, json.dumps(body).encode(), JSON | pace)
    assert answer.status == 200
    assert not stream or answer.body.count(b"data: ") >= tokens
    wait_idle(stack)
    after = messages(stack)
    assert (after[0] - sent, after[1] - received) == (3, 3)


def test_a_long_prompt_costs_no_more_messages(stack: Stack) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_000_000}}
    wait_idle(stack)
    sent, _ = messages(stack)
    assert stack.post(PATH, CHAT | {"messages": [{"role": "user", "content": [image]}]}).status == 200
    assert messages(stack)[0] - sent == 3


def test_listing_models_costs_one_message(stack: Stack) -> None:
    sent, _ = messages(stack)
    assert stack.models()
    assert messages(stack)[0] - sent <= 2  # the request's head, and the head of our own answer


def test_every_exchange_is_finished_exactly_once(stack: Stack) -> None:
    wait_idle(stack)
    before = finished(stack)
    count = 0
    for answer in _varied(stack):
        count += 1
        assert answer
    with stack.client() as client:
        headers = {"x-sim-itl-ms": "20", "x-sim-tokens": "500"}
        stream = client.chat.completions.create(**CHAT | {"max_tokens": 500}, stream=True, extra_headers=headers)
        next(iter(stream))
        stream.close()
        cut = client.chat.completions.create(**CHAT, stream=True, extra_headers={"x-sim-fault": "reset-mid-stream"})
        with pytest.raises(openai.APIError):
            list(cut)
    eventually(lambda: finished(stack) >= before + count + 2, "all exchanges are counted")
    wait_idle(stack)
    assert finished(stack) == before + count + 2


def _varied(stack: Stack) -> Iterable[int]:
    yield stack.post(PATH, CHAT).status
    yield stack.post(PATH, CHAT | {"stream": True}).status
    yield stack.post(PATH, CHAT | {"model": "nope"}).status
    yield stack.post("/v1/nope", {}).status
    yield stack.send("GET", "/v1/models").status
    yield stack.send("OPTIONS", PATH, headers={"origin": "https://x"}).status
    yield stack.send("POST", PATH, b"{bad", JSON).status
    yield stack.send("GET", PATH, headers={"authorization": "Bearer wrong"}).status
    for fault in ("status;code=500", "status;code=503", "html-502", "reset-before-headers", "malformed-json"):
        yield stack.post(PATH, CHAT, x_sim_fault=fault).status


def test_the_chosen_strategy_spreads_requests(stack: Stack) -> None:
    engines = stack.engines_of("chat-m")
    for engine in engines:
        engine.forget()
    for _ in range(10):
        assert stack.post(PATH, CHAT, routing_strategy="round-robin").status == 200
    assert [len(engine.requests(PATH)) for engine in engines] == [5, 5]
