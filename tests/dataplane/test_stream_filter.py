"""The stream filter and the access log in a real Envoy: what clients see of streams, and what the gateway counts."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import openai
import pytest

from tests.dataplane.engines import Engine, EngineSpec
from tests.dataplane.raw import Answer
from tests.dataplane.stack import METERED, METERED_IN_ROUTE, Stack, running
from tests.waiting import eventually

pytestmark = pytest.mark.slow

HELLO: list[Any] = [{"role": "user", "content": "hello"}]
CHAT: dict[str, Any] = {"model": "chat", "messages": HELLO, "max_tokens": 6, "stream": True}
RESPONSE: dict[str, Any] = {"model": "chat", "input": "hello", "max_output_tokens": 6, "stream": True}
MESSAGE: dict[str, Any] = {"model": "chat", "messages": HELLO, "max_tokens": 6, "stream": True}
PACE = {"x-sim-itl-ms": "2"}
SAD = "The server had an error while processing your request. Sorry about that!"
FLEET = (EngineSpec("chat", ("chat",)), EngineSpec("emb", ("emb",), ("--task", "embed")))


@pytest.fixture(
    scope="module", params=[("grpcio", METERED_IN_ROUTE), ("lean", METERED)], ids=["in-route", "in-cluster"]
)
def metered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Envoy with the filter in each place and the access log service, on each transport."""
    transport, options = request.param
    stack = Stack(
        tmp_path_factory.mktemp("metered"),
        FLEET,
        serve_arguments=("--metering", "--log-exchanges", "--transport", transport),
        envoy_options=options,
    )
    with running(stack) as started:
        yield started


@pytest.fixture(autouse=True)
def _all_is_recorded(metered: Stack) -> None:
    """What earlier tests sent is counted: entries come in order, so wait for one more."""
    before = tokens(metered, "emb")
    assert metered.post("/v1/embeddings", {"model": "emb", "input": "mark"}).status == 200
    eventually(lambda: tokens(metered, "emb") != before, "the access log has caught up")


@pytest.fixture
def engine(metered: Stack) -> Iterator[Engine]:
    found = metered.engine("chat")
    yield found
    found.recover()


def tokens(stack: Stack, model: str) -> dict[str, float]:
    total = stack.worker.total
    return {kind: total("aibrix_extproc_tokens_total", model=model, kind=kind) for kind in ("input", "output")}


def ends(stack: Stack, operation: str) -> dict[str, float]:
    total = stack.worker.total
    return {
        end: total("aibrix_extproc_streams_total", operation=operation, end=end)
        for end in ("complete", "error", "cut", "left")
    }


def grows(stack: Stack, operation: str, end: str, before: dict[str, float], by: int = 1) -> None:
    """The access log comes a moment late; streams of earlier tests that were cut or left may come later still."""
    expected = before[end] + by
    eventually(lambda: ends(stack, operation)[end] >= expected, f"{by} more {operation} streams are {end}")
    assert ends(stack, operation)[end] == expected


def events(answer: Answer) -> list[str]:
    return [one.partition(b"data: ")[2].decode() for one in answer.body.split(b"\n\n") if one]


def test_chat_04_a_metered_stream_shows_no_usage_and_is_counted(metered: Stack) -> None:
    before, counted = ends(metered, "chat_completion"), tokens(metered, "chat")
    answer = metered.post("/v1/chat/completions", CHAT)
    chunks = [json.loads(one) for one in events(answer)[:-1]]
    assert all(chunk["choices"] for chunk in chunks)
    assert not any("usage" in chunk for chunk in chunks)
    assert events(answer)[-1] == "[DONE]"
    grows(metered, "chat_completion", "complete", before)
    assert tokens(metered, "chat")["output"] == counted["output"] + 6
    assert tokens(metered, "chat")["input"] > counted["input"]


def test_chat_03_a_client_that_asks_for_usage_gets_it(metered: Stack) -> None:
    with metered.client() as client:
        chunks = list(client.chat.completions.create(**CHAT, stream_options={"include_usage": True}))
    assert [chunk.usage.completion_tokens for chunk in chunks if chunk.usage] == [6]
    assert chunks[-1].choices == []


@pytest.mark.parametrize("size", [1, 7, 100])
def test_pieces_of_any_size_give_the_same_stream(metered: Stack, size: int) -> None:
    asked = CHAT | {"seed": 5, "temperature": 0}

    def text(**headers: str) -> str:
        with metered.client() as client:
            stream = client.chat.completions.create(**asked, extra_headers=headers)
            return "".join(chunk.choices[0].delta.content or "" for chunk in stream)

    assert text(**{"x-sim-fault": f"sse-pieces;bytes={size}"}) == text() != ""


@pytest.mark.parametrize("tokens", [1, 3])
def test_chat_09_chunks_are_not_held_back(metered: Stack, tokens: int) -> None:
    """What an engine has sent, the role first, is with the client while the engine sends nothing more."""
    with metered.client() as client:
        fault = {"x-sim-fault": f"stall-mid-stream;after={tokens + 1}"}
        with client.chat.completions.create(**CHAT, extra_headers=fault) as stream:
            texts = (chunk.choices[0].delta.content for chunk in stream if chunk.choices)
            assert len(list(islice(filter(None, texts), tokens))) == tokens


@pytest.mark.parametrize("asked", [CHAT | {"stream": False}, {"model": "emb", "input": "one two"}], ids=["chat", "emb"])
def test_whole_answers_are_counted_too(metered: Stack, asked: dict[str, Any]) -> None:
    model = asked["model"]
    counted = tokens(metered, model)
    path = "/v1/embeddings" if model == "emb" else "/v1/chat/completions"
    usage = metered.post(path, asked).json()["usage"]
    expected = {
        "input": counted["input"] + usage["prompt_tokens"],
        "output": counted["output"] + usage.get("completion_tokens", 0),
    }
    eventually(lambda: tokens(metered, model) == expected, "the tokens are counted")


@pytest.mark.parametrize("fault", ["sse-pieces;bytes=100000", "sse-pieces;bytes=7"], ids=["whole", "in-pieces"])
def test_resp_09_responses_and_messages_are_counted(metered: Stack, fault: str) -> None:
    for operation, path, asked in (("response", "/v1/responses", RESPONSE), ("message", "/v1/messages", MESSAGE)):
        before, counted = ends(metered, operation), tokens(metered, "chat")
        assert metered.post(path, asked, x_sim_fault=fault).status == 200
        grows(metered, operation, "complete", before)
        assert tokens(metered, "chat")["output"] == counted["output"] + 6


@pytest.mark.parametrize("fault", ["error-event;after=2", "first-event-error"])
def test_err_05_14_an_error_in_a_chat_stream_raises_with_a_string_code(metered: Stack, fault: str) -> None:
    before = ends(metered, "chat_completion")
    with metered.client() as client, pytest.raises(openai.APIError) as caught:
        list(client.chat.completions.create(**CHAT, extra_headers=PACE | {"x-sim-fault": fault}))
    assert (caught.value.code, caught.value.type, caught.value.message) == ("upstream_error", "server_error", SAD)
    grows(metered, "chat_completion", "error", before)


@pytest.mark.parametrize("fault", ["error-event;after=2", "close-mid-stream;after=2"])
def test_resp_06_a_response_that_breaks_raises(metered: Stack, fault: str) -> None:
    before = ends(metered, "response")
    with metered.client() as client, pytest.raises(openai.APIError) as caught:
        list(client.responses.create(**RESPONSE, extra_headers=PACE | {"x-sim-fault": fault}))
    assert caught.value.code == "upstream_error"
    grows(metered, "response", "error", before)


@pytest.mark.parametrize("fault", ["error-event;after=2", "close-mid-stream;after=2"])
def test_a_message_that_breaks_ends_with_anthropics_error(metered: Stack, fault: str) -> None:
    answer = metered.post("/v1/messages", MESSAGE, x_sim_fault=fault, x_sim_itl_ms="2")
    assert b'event: error\ndata: {"type":"error","error":{"type":"api_error",' in answer.body
    assert b"EngineCore" not in answer.body


@pytest.mark.parametrize("after", [1, 3])
def test_err_05_a_chat_stream_that_ends_early_in_good_order_raises(metered: Stack, after: int) -> None:
    before = ends(metered, "chat_completion")
    headers = PACE | {"x-sim-fault": f"close-mid-stream;after={after}"}
    with metered.client() as client, pytest.raises(openai.APIError, match=SAD):
        list(client.chat.completions.create(**CHAT, extra_headers=headers))
    grows(metered, "chat_completion", "error", before)


@pytest.mark.parametrize("asked", [CHAT, RESPONSE], ids=["chat", "responses"])
def test_err_05_a_stream_that_is_reset_raises(metered: Stack, asked: dict[str, Any]) -> None:
    operation = "chat_completion" if asked is CHAT else "response"
    before = ends(metered, operation)
    headers = PACE | {"x-sim-fault": "reset-mid-stream;after=3"}
    with metered.client() as client, pytest.raises(openai.APIConnectionError):
        list(
            client.chat.completions.create(**asked, extra_headers=headers)
            if asked is CHAT
            else client.responses.create(**asked, extra_headers=headers)
        )
    grows(metered, operation, "cut", before)


def test_a_client_that_leaves_is_told_apart(metered: Stack) -> None:
    before = ends(metered, "chat_completion")
    with metered.client() as client:
        stream = client.chat.completions.create(**CHAT | {"max_tokens": 200}, extra_headers={"x-sim-itl-ms": "50"})
        next(iter(stream))
        stream.close()
    grows(metered, "chat_completion", "left", before)


def test_err_16_an_engine_that_is_paused_gives_no_short_success(metered: Stack, engine: Engine) -> None:
    begun = threading.Event()

    def pause() -> None:
        begun.wait(60)
        engine.post("/pause?mode=abort")

    pausing = threading.Thread(target=pause)
    pausing.start()
    try:
        with metered.client() as client:
            stream = client.chat.completions.create(**CHAT | {"max_tokens": 500}, extra_headers={"x-sim-itl-ms": "20"})
            next(iter(stream))
            begun.set()
            with pytest.raises(openai.APIError, match=SAD):
                list(stream)
    finally:
        begun.set()
        pausing.join()
        engine.post("/resume")
        served = CHAT | {"stream": False}
        eventually(lambda: metered.post("/v1/chat/completions", served).status == 200, "the engine is known to be back")


def test_many_streams_at_once_are_counted_once_each(metered: Stack) -> None:
    before, counted = ends(metered, "chat_completion"), tokens(metered, "chat")
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: metered.post("/v1/chat/completions", CHAT), range(20)))
    assert [answer.status for answer in answers] == [200] * 20
    grows(metered, "chat_completion", "complete", before, by=20)
    assert tokens(metered, "chat")["output"] == counted["output"] + 120


def test_nothing_in_the_access_log_is_malformed_and_the_filter_never_failed(metered: Stack) -> None:
    assert metered.worker.total("aibrix_extproc_access_log_malformed_total") == 0
    assert "script log" not in metered.envoy.output()
    assert metered.envoy_stats("lua.errors").get("http.openai.lua.errors", 0) == 0


def test_a_worker_that_stops_does_not_wait_for_the_access_log(metered: Stack, new_stack: Any) -> None:
    stack = new_stack(
        (EngineSpec("chat", ("chat",)),),
        serve_arguments=metered.serve_arguments,
        envoy_options=METERED,
    )
    stack.post("/v1/chat/completions", CHAT)
    eventually(lambda: tokens(stack, "chat")["output"] == 6, "the access log has begun")
    stack.worker.child.terminate()
    assert stack.worker.child.wait(25) == 0  # before the 30 s that running exchanges have
