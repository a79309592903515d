"""The real SDK against the simulator: what it cannot read is not vLLM-compatible."""

import asyncio
import io
import json
import wave
from collections.abc import AsyncIterator
from typing import Any

import openai
import pydantic
import pytest

from aibrix_extproc.simulator.options import LoraModule, SimulatorOptions, Task
from aibrix_extproc.simulator.server import Simulator
from tests.waiting import until

Messages = list[Any]
HELLO: Messages = [{"role": "user", "content": "hello there"}]
WEATHER: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "unit": {"enum": ["C", "F"]}, "days": {"type": "integer"}},
                "required": ["city", "days"],
            },
        },
    }
]


class Person(pydantic.BaseModel):
    name: str
    age: int
    emails: list[str]
    boss: "Person | None" = None


def client_of(sim: Simulator, **options: Any) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=sim.base_url, api_key="sk-test", max_retries=0, **options)


@pytest.fixture
async def client(sim: Simulator) -> AsyncIterator[openai.AsyncOpenAI]:
    async with client_of(sim, _strict_response_validation=True) as found:
        yield found


def wav(seconds: float) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(8000)
        writer.writeframes(b"\0\0" * int(8000 * seconds))
    return file.getvalue()


async def test_chat_completion_is_valid_and_its_usage_adds_up(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model="alias-a", messages=HELLO)
    assert answer.model == "sim-model"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 16
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 16


async def test_chat_stream_says_the_same_as_the_whole_answer(client: openai.AsyncOpenAI) -> None:
    whole = await client.chat.completions.create(model="sim-model", messages=HELLO, seed=5, max_tokens=7)
    stream = await client.chat.completions.create(
        model="sim-model",
        messages=HELLO,
        seed=5,
        max_tokens=7,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole.choices[0].message.content
    reasons = [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason]
    assert reasons == ["length"] == [whole.choices[0].finish_reason]
    assert [c.usage for c in chunks if not c.choices] == [whole.usage]
    assert not chunks[-1].choices


@pytest.mark.parametrize("options", [None, {"include_usage": False}])
async def test_stream_without_a_wish_for_usage_has_none(client: openai.AsyncOpenAI, options: Any) -> None:
    extra = {} if options is None else {"stream_options": options}
    stream = await client.chat.completions.create(model="sim-model", messages=HELLO, stream=True, **extra)
    assert [chunk.usage async for chunk in stream if chunk.usage is not None or not chunk.choices] == []


async def test_stream_helper_gathers_the_final_completion(client: openai.AsyncOpenAI) -> None:
    async with client.chat.completions.stream(
        model="sim-model", messages=HELLO, stream_options={"include_usage": True}
    ) as stream:
        final = await stream.get_final_completion()
    assert final.usage is not None
    assert final.choices[0].message.content


async def test_choices_differ_and_each_finishes_in_a_stream(client: openai.AsyncOpenAI) -> None:
    whole = await client.chat.completions.create(model="sim-model", messages=HELLO, n=3)
    assert len({choice.message.content for choice in whole.choices}) == 3
    texts = ["", "", ""]
    stream = await client.chat.completions.create(model="sim-model", messages=HELLO, n=3, stream=True)
    async for chunk in stream:
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert texts == [choice.message.content for choice in whole.choices]


async def test_logprobs_cover_every_token(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        model="sim-model", messages=HELLO, logprobs=True, top_logprobs=3, max_tokens=4
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert [len(entry.top_logprobs) for entry in logprobs.content] == [3, 3, 3, 3]
    stream = await client.chat.completions.create(
        model="sim-model", messages=HELLO, logprobs=True, max_tokens=4, stream=True
    )
    tokens = [
        entry.token
        async for chunk in stream
        if chunk.choices[0].logprobs
        for entry in chunk.choices[0].logprobs.content or ()
    ]
    assert tokens == [entry.token for entry in logprobs.content]


async def test_stop_string_ends_the_answer_before_it(client: openai.AsyncOpenAI) -> None:
    free = await client.chat.completions.create(model="sim-model", messages=HELLO)
    text = free.choices[0].message.content or ""
    stop = text[20:27]
    cut = await client.chat.completions.create(model="sim-model", messages=HELLO, stop=[stop, "never"])
    assert cut.choices[0].message.content == text[: text.index(stop)]
    assert cut.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
async def test_tool_call_has_arguments_of_its_schema(client: openai.AsyncOpenAI, choice: Any) -> None:
    answer = await client.chat.completions.create(model="sim-model", messages=HELLO, tools=WEATHER, tool_choice=choice)
    calls: Any = answer.choices[0].message.tool_calls
    assert calls[0].function.name == "get_weather"
    arguments = json.loads(calls[0].function.arguments)
    assert arguments == {"city": "sample", "unit": "C", "days": 1}
    stream = await client.chat.completions.create(
        model="sim-model", messages=HELLO, tools=WEATHER, tool_choice=choice, stream=True
    )
    name, streamed = "", ""
    async for chunk in stream:
        for call in chunk.choices[0].delta.tool_calls or ():
            assert call.function is not None
            name += call.function.name or ""
            streamed += call.function.arguments or ""
    assert (name, json.loads(streamed)) == ("get_weather", arguments)


async def test_parse_fills_a_pydantic_model(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.parse(model="sim-model", messages=HELLO, response_format=Person)
    assert isinstance(answer.choices[0].message.parsed, Person)


async def test_completions_take_all_forms_of_prompt(client: openai.AsyncOpenAI) -> None:
    prompts: list[Any] = ["one", ["one", "two"], [1, 2, 3], [[1, 2], [3]]]
    counts = []
    for prompt in prompts:
        answer = await client.completions.create(model="sim-model", prompt=prompt, n=2, max_tokens=3)
        assert [choice.index for choice in answer.choices] == list(range(len(answer.choices)))
        assert answer.usage is not None
        counts.append((len(answer.choices), answer.usage.prompt_tokens))
    assert counts == [(2, 1), (4, 2), (2, 3), (4, 3)]


async def test_completion_stream_with_usage_equals_the_whole_answer(sim: Simulator) -> None:
    # Not strict: chunks carry a null finish_reason, which OpenAI's own type does not allow.
    async with client_of(sim) as client:
        whole = await client.completions.create(model="sim-model", prompt="abc", echo=True, max_tokens=5)
        stream = await client.completions.create(
            model="sim-model",
            prompt="abc",
            echo=True,
            max_tokens=5,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
    assert whole.choices[0].text.startswith("abc ")
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == whole.choices[0].text
    assert chunks[-1].usage == whole.usage


async def test_completion_logprobs_are_aligned(client: openai.AsyncOpenAI) -> None:
    answer = await client.completions.create(model="sim-model", prompt="abc", logprobs=2, max_tokens=3)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert "".join(logprobs.tokens or ()) == answer.choices[0].text
    assert logprobs.text_offset == [0, 4, 8]


async def test_response_is_valid_and_counts_its_tokens(client: openai.AsyncOpenAI) -> None:
    answer = await client.responses.create(model="sim-model", input="hello", instructions="be brief")
    assert answer.status == "completed"
    assert answer.output_text
    assert answer.usage is not None
    assert answer.usage.output_tokens == 16


async def test_response_stream_is_numbered_without_gaps(client: openai.AsyncOpenAI) -> None:
    whole = await client.responses.create(model="sim-model", input="hello", max_output_tokens=4)
    stream = await client.responses.create(model="sim-model", input="hello", max_output_tokens=4, stream=True)
    events: list[Any] = [event async for event in stream]
    assert [event.type for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * 4,
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].response.status == whole.status == "incomplete"
    assert events[-1].response.output_text == whole.output_text


async def test_response_helper_gets_the_final_response(client: openai.AsyncOpenAI) -> None:
    async with client.responses.stream(model="sim-model", input="hello") as stream:
        final = await stream.get_final_response()
    assert final.status == "completed"


async def test_response_parse_fills_a_pydantic_model(client: openai.AsyncOpenAI) -> None:
    answer = await client.responses.parse(model="sim-model", input="hello", text_format=Person)
    assert isinstance(answer.output_parsed, Person)


async def test_response_calls_a_required_function(client: openai.AsyncOpenAI) -> None:
    tools: list[Any] = [{"type": "function", **WEATHER[0]["function"], "strict": False}]
    answer = await client.responses.create(model="sim-model", input="hi", tools=tools, tool_choice="required")
    call: Any = answer.output[0]
    assert (call.type, call.name, json.loads(call.arguments)["days"]) == ("function_call", "get_weather", 1)
    stream = await client.responses.create(
        model="sim-model", input="hi", tools=tools, tool_choice="required", stream=True
    )
    types = [event.type async for event in stream]
    assert "response.function_call_arguments.delta" in types


async def test_stored_response_can_be_retrieved_continued_and_replayed() -> None:
    async with Simulator(SimulatorOptions(responses_store=True)) as sim, client_of(sim) as client:
        first = await client.responses.create(model="sim-model", input="hello")
        assert (await client.responses.retrieve(first.id)).output_text == first.output_text
        second = await client.responses.create(model="sim-model", input="and?", previous_response_id=first.id)
        assert second.usage is not None
        assert first.usage is not None
        assert second.usage.input_tokens > first.usage.input_tokens + 10
        stream = await client.responses.create(model="sim-model", input="hello", stream=True)
        events: list[Any] = [event async for event in stream]
        again = await client.responses.retrieve(events[0].response.id, stream=True, starting_after=3)
        assert [event.sequence_number async for event in again] == list(range(4, len(events)))


async def test_response_is_called_as_the_request_says(client: openai.AsyncOpenAI) -> None:
    asked: Any = {"model": "sim-model", "input": "hello", "extra_body": {"request_id": "resp_mine"}}
    assert (await client.responses.create(**asked)).id == "resp_mine"
    stream = await client.responses.create(**asked, stream=True)
    ids = {event.response.id async for event in stream if hasattr(event, "response")}
    assert ids == {"resp_mine"}


async def test_background_response_completes_or_is_cancelled() -> None:
    async with Simulator(SimulatorOptions(responses_store=True)) as sim, client_of(sim) as client:
        quick = await client.responses.create(model="sim-model", input="hello", background=True)

        async def is_completed() -> bool:
            return bool((await client.responses.retrieve(quick.id)).status == "completed")

        await until(is_completed)
        slow = await client.responses.create(
            model="sim-model", input="hello", background=True, extra_headers={"x-sim-itl-ms": "60000"}
        )
        assert (await client.responses.cancel(slow.id)).status == "cancelled"
        await until(lambda: not sim.engine.scheduler.running)


async def test_unknown_response_is_not_found(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match=r"Response with id 'resp_x' not found\."):
        await client.responses.retrieve("resp_x")
    with pytest.raises(openai.BadRequestError, match="VLLM_ENABLE_RESPONSES_API_STORE=1"):
        await client.responses.create(model="sim-model", input="hi", background=True)


async def test_embeddings_are_the_same_in_base64_and_float() -> None:
    async with Simulator(SimulatorOptions(task=Task.EMBED)) as sim, client_of(sim) as client:
        texts = ["one", "two", "three"]
        packed = await client.embeddings.create(model="sim-model", input=texts)
        plain = await client.embeddings.create(model="sim-model", input=texts, encoding_format="float")
        assert [entry.index for entry in packed.data] == [0, 1, 2]
        assert packed.data[1].embedding == pytest.approx(plain.data[1].embedding)
        assert packed.data[0].embedding != packed.data[1].embedding
        assert sum(value * value for value in packed.data[0].embedding) == pytest.approx(1)
        assert packed.usage.prompt_tokens == 4
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(model="sim-model", messages=HELLO)


@pytest.mark.parametrize("given", [[], "", ["a", ""]])
async def test_empty_embedding_input_is_refused(given: Any) -> None:
    async with Simulator(SimulatorOptions(task=Task.EMBED)) as sim, client_of(sim) as client:
        with pytest.raises(openai.BadRequestError):
            await client.embeddings.create(model="sim-model", input=given)


async def test_transcription_reads_the_length_of_a_wav() -> None:
    async with Simulator(SimulatorOptions(task=Task.TRANSCRIPTION)) as sim, client_of(sim) as client:
        answer = await client.audio.transcriptions.create(model="sim-model", file=("a.wav", wav(2.5)))
        assert answer.text
        assert answer.usage is not None
        assert answer.usage.to_dict() == {"type": "duration", "seconds": 3}
        verbose = await client.audio.transcriptions.create(
            model="sim-model", file=("a.wav", wav(2.5)), response_format="verbose_json"
        )
        assert (verbose.text, float(verbose.duration)) == (answer.text, 2.5)


async def test_unwanted_transcription_is_refused() -> None:
    async with Simulator(SimulatorOptions(task=Task.TRANSCRIPTION)) as sim, client_of(sim) as client:
        with pytest.raises(openai.BadRequestError, match="srt"):
            await client.audio.transcriptions.create(model="sim-model", file=wav(1), response_format="srt")
        with pytest.raises(openai.NotFoundError):
            await client.audio.transcriptions.create(model="nope", file=wav(1))
        with pytest.raises(openai.BadRequestError, match="Maximum file size exceeded"):
            await client.audio.transcriptions.create(model="sim-model", file=b"0" * (25 * 1024 * 1024 + 1))


async def test_models_list_has_aliases_and_adapters() -> None:
    options = SimulatorOptions(models=("base", "alias"), loras=(LoraModule("lora-1", "/loras/1"),), root="/models/x")
    async with Simulator(options) as sim, client_of(sim) as client:
        found = {model.id: model.to_dict() for model in (await client.models.list()).data}
        assert list(found) == ["base", "alias", "lora-1"]
        assert (found["base"]["root"], found["base"]["parent"], found["base"]["max_model_len"]) == (
            "/models/x",
            None,
            8192,
        )
        assert (found["lora-1"]["root"], found["lora-1"]["parent"]) == ("/loras/1", "base")
        answer = await client.chat.completions.create(model="lora-1", messages=HELLO)
        assert answer.model == "lora-1"
        with pytest.raises(openai.NotFoundError, match=r"`nope` does not exist\. Valid aliases: base, alias\."):
            await client.chat.completions.create(model="nope", messages=HELLO)


async def test_key_is_required_when_there_is_one() -> None:
    async with Simulator(SimulatorOptions(api_keys=("sk-other", "sk-test"))) as sim:
        async with client_of(sim) as client:
            await client.models.list()
        async with openai.AsyncOpenAI(base_url=sim.base_url, api_key="wrong", max_retries=0) as client:
            with pytest.raises(openai.AuthenticationError) as caught:
                await client.models.list()
        assert caught.value.body == "Unauthorized"


@pytest.mark.slow
async def test_two_hundred_streams_do_not_mix(client: openai.AsyncOpenAI) -> None:
    async def one(number: int) -> tuple[str, set[str]]:
        stream = await client.chat.completions.create(
            model="sim-model",
            messages=HELLO,
            stream=True,
            extra_headers={"x-request-id": f"r{number}", "x-sim-itl-ms": "2"},
        )
        return f"chatcmpl-r{number}", {chunk.id async for chunk in stream}

    for wanted, ids in await asyncio.gather(*(one(number) for number in range(200))):
        assert ids == {wanted}
