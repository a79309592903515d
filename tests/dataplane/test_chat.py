"""Acceptance 7.4: chat completions with the SDK, whole and streamed."""

import asyncio
import itertools
import json
from typing import Any

import openai
import pydantic
import pytest

from tests.dataplane.stack import Stack
from tests.waiting import eventually

HELLO = [{"role": "user", "content": "hello"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
PNG = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUg=="  # nobody here looks into it


def text_of(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def test_chat_01_create_gives_a_strictly_valid_completion(stack: Stack) -> None:
    with stack.client(_strict_response_validation=True) as client:
        completion = client.chat.completions.create(model="chat-m", messages=HELLO, max_tokens=8)
    assert completion.object == "chat.completion"
    assert completion.model == "chat-m"
    assert completion.choices[0].message.role == "assistant"
    assert completion.choices[0].finish_reason == "length"
    usage = completion.usage
    assert usage.prompt_tokens > 0
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_chat_02_a_stream_says_the_same_as_a_whole_answer(stack: Stack, client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "chat-m", "messages": HELLO, "seed": 3, "temperature": 0, "max_tokens": 12}
    whole = client.chat.completions.create(**asked)
    chunks = list(client.chat.completions.create(**asked, stream=True))
    assert text_of(chunks) == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [one.choices[0].finish_reason for one in chunks if one.choices[0].finish_reason] == ["length"]
    assert len({chunk.id for chunk in chunks}) == 1
    raw = stack.post("/v1/chat/completions", asked | {"stream": True})
    assert raw.header("content-type") == "text/event-stream; charset=utf-8"
    assert raw.body.endswith(b"data: [DONE]\n\n")


def test_chat_03_usage_comes_once_and_last(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="chat-m", messages=HELLO, max_tokens=6, stream=True, stream_options={"include_usage": True}
        )
    )
    empty = [chunk for chunk in chunks if not chunk.choices]
    assert empty == chunks[-1:]
    assert empty[0].usage.completion_tokens == 6
    assert empty[0].usage.total_tokens == empty[0].usage.prompt_tokens + 6


@pytest.mark.parametrize("options", [None, {"include_usage": False}], ids=["none", "chat_05-false"])
def test_chat_05_no_usage_unless_asked_for(client: openai.OpenAI, options: dict[str, bool] | None) -> None:
    extra: dict[str, Any] = {} if options is None else {"stream_options": options}
    chunks = list(client.chat.completions.create(model="chat-m", messages=HELLO, stream=True, **extra))
    assert all(chunk.choices for chunk in chunks)
    assert all(getattr(chunk, "usage", None) is None for chunk in chunks)


def test_chat_06_the_stream_helper_gives_a_final_completion_with_usage(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        model="chat-m", messages=HELLO, stream_options={"include_usage": True}, extra_headers={"x-sim-tokens": "6"}
    ) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert final.choices[0].message.content
    assert final.usage.completion_tokens == 6


class Answer(pydantic.BaseModel):
    city: str
    degrees: int


def test_chat_07_parse_gives_the_model(client: openai.OpenAI) -> None:
    completion = client.chat.completions.parse(model="chat-m", messages=HELLO, response_format=Answer)
    assert isinstance(completion.choices[0].message.parsed, Answer)


@pytest.mark.slow
async def test_chat_08_two_hundred_streams_do_not_mix(stack: Stack) -> None:
    async with stack.async_client() as client:

        async def one(number: int) -> tuple[set[str], str]:
            messages = [{"role": "user", "content": f"question {number}"}]
            stream = await client.chat.completions.create(
                model="chat-m", messages=messages, max_tokens=8, stream=True, extra_headers={"x-sim-itl-ms": "5"}
            )
            chunks = [chunk async for chunk in stream]
            return {chunk.id for chunk in chunks}, text_of(chunks)

        found = await asyncio.gather(*(one(number) for number in range(200)))
        assert all(len(ids) == 1 for ids, _ in found)
        assert len({next(iter(ids)) for ids, _ in found}) == 200
        for number in range(0, 200, 20):
            messages = [{"role": "user", "content": f"question {number}"}]
            whole = await client.chat.completions.create(model="chat-m", messages=messages, max_tokens=8)
            assert found[number][1] == whole.choices[0].message.content


@pytest.mark.slow
@pytest.mark.parametrize("tokens", [1, 2, 5])
def test_chat_09_tokens_arrive_one_by_one(client: openai.OpenAI, tokens: int) -> None:
    """What the engine has sent, the role first, is with the client while the engine sends nothing more."""
    fault = {"x-sim-fault": f"stall-mid-stream;after={tokens + 1}"}
    with client.chat.completions.create(model="chat-m", messages=HELLO, stream=True, extra_headers=fault) as stream:
        texts = (chunk.choices[0].delta.content for chunk in stream)
        assert len(list(itertools.islice(filter(None, texts), tokens))) == tokens


@pytest.mark.slow
def test_chat_10_closing_a_stream_ends_it_at_the_engine(stack: Stack, client: openai.OpenAI) -> None:
    def aborted() -> float:
        return sum(float(engine.stats()["finished"]["abort"]) for engine in stack.engines_of("chat-m"))

    before = aborted()
    headers = {"x-sim-itl-ms": "50", "x-sim-tokens": "1000"}
    stream = client.chat.completions.create(model="chat-m", messages=HELLO, stream=True, extra_headers=headers)
    for _, _chunk in zip(range(3), stream, strict=False):
        pass
    stream.close()
    eventually(lambda: aborted() == before + 1, "the engine has ended the stream", seconds=40.0)  # of its 50 s


def test_chat_11_a_stream_is_never_compressed(stack: Stack) -> None:
    body = {"model": "chat-m", "messages": HELLO, "stream": True}
    answer = stack.post("/v1/chat/completions", body, accept_encoding="gzip, deflate, br")
    assert answer.header("content-encoding") is None
    assert answer.body.startswith(b"data: {")


@pytest.mark.slow
@pytest.mark.parametrize(("tokens", "piece"), [(200, 1), (10_000, 333)], ids=["bytes", "ten-thousand-tokens"])
def test_chat_12_13_a_stream_in_tiny_segments_is_read_whole(client: openai.OpenAI, tokens: int, piece: int) -> None:
    asked: dict[str, Any] = {"model": "chat-m", "messages": HELLO, "max_tokens": tokens, "seed": 5}
    pace = {"x-sim-tokens": str(tokens)}
    cut = pace | {"x-sim-fault": f"sse-pieces;bytes={piece}"}
    chunks = list(
        client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}, extra_headers=cut)
    )
    whole = client.chat.completions.create(**asked, extra_headers=pace)
    assert text_of(chunks) == whole.choices[0].message.content
    assert not text_of(chunks).isascii()  # characters of several bytes were cut as well
    assert chunks[-1].usage.completion_tokens == tokens


def test_chat_14_eight_images_pass(client: openai.OpenAI) -> None:
    content = [{"type": "text", "text": "what?"}] + [{"type": "image_url", "image_url": {"url": PNG}} for _ in range(8)]
    messages: list[Any] = [{"role": "user", "content": content}]
    assert client.chat.completions.create(model="chat-m", messages=messages).choices[0].message.content


def test_chat_15_a_streamed_tool_call_adds_up_to_json(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="chat-m", messages=HELLO, tools=[TOOL], tool_choice="required", stream=True,
        extra_headers={"x-sim-fault": "sse-pieces;bytes=11"},
    )  # fmt: skip
    names, arguments, reasons = [], "", []
    for chunk in stream:
        for call in chunk.choices[0].delta.tool_calls or []:
            names += [call.function.name] if call.function.name else []
            arguments += call.function.arguments or ""
        reasons += [chunk.choices[0].finish_reason] if chunk.choices[0].finish_reason else []
    assert (names, reasons) == (["weather"], ["tool_calls"])
    assert list(json.loads(arguments)) == ["city"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_chat_16_reasoning_passes_through(client: openai.OpenAI, stream: bool) -> None:
    answer = client.chat.completions.create(
        model="chat-m", messages=HELLO, stream=stream, extra_headers={"x-sim-reasoning": "3"}
    )
    if stream:
        reasoning = "".join(getattr(chunk.choices[0].delta, "reasoning", None) or "" for chunk in answer)
    else:
        reasoning = answer.choices[0].message.reasoning
    assert len(reasoning.split()) == 3


def test_chat_17_a_lora_adapter_answers_under_its_name(stack: Stack, client: openai.OpenAI) -> None:
    stack.engine("small").forget()
    completion = client.chat.completions.create(model="lora-1", messages=HELLO)
    assert completion.model == "lora-1"
    assert len(stack.engine("small").requests()) == 1


def test_chat_17_an_alias_reaches_the_engine_that_has_it(client: openai.OpenAI) -> None:
    assert client.chat.completions.create(model="chat-s", messages=HELLO).model == "org/chat-s"


def test_chat_18_newer_parameters_and_roles_pass(client: openai.OpenAI) -> None:
    messages: list[Any] = [{"role": "developer", "content": "be brief"}, *HELLO]
    completion = client.chat.completions.create(model="chat-m", messages=messages, max_completion_tokens=5)
    assert completion.usage.completion_tokens == 5
