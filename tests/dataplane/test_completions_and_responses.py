"""Acceptance 7.4 (completions) and 7.5 (responses) with the SDK."""

from typing import Any

import openai
import pytest

from tests.dataplane.openai_error import assert_openai_error
from tests.dataplane.stack import Stack


def test_comp_01_completions_take_a_list_of_prompts(stack: Stack) -> None:
    with stack.client(_strict_response_validation=True) as client:
        completion = client.completions.create(model="chat-m", prompt=["one", "two"], max_tokens=4)
    assert [choice.index for choice in completion.choices] == [0, 1]
    assert completion.usage.completion_tokens == 8


def test_comp_01_completions_stream_with_usage(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "chat-m", "prompt": "once upon a time", "max_tokens": 5, "seed": 2}
    whole = client.completions.create(**asked)
    chunks = list(client.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == whole.choices[0].text
    assert not chunks[-1].choices
    assert chunks[-1].usage.completion_tokens == 5


def test_comp_02_a_suffix_is_refused_by_name(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model="chat-m", prompt="a", suffix="z")
    assert_openai_error(caught.value, 400, param="suffix")


def test_resp_01_create_gives_text_and_usage(client: openai.OpenAI) -> None:
    response = client.responses.create(model="chat-m", input="hello", max_output_tokens=8)
    assert response.object == "response"
    assert response.output_text
    assert response.usage.input_tokens > 0
    assert response._request_id


def test_resp_02_a_stream_has_all_events_in_order(stack: Stack, client: openai.OpenAI) -> None:
    events = list(client.responses.create(model="chat-m", input="hello", stream=True))
    kinds = [event.type.removeprefix("response.") for event in events]
    assert kinds[:4] == ["created", "in_progress", "output_item.added", "content_part.added"]
    deltas = kinds.count("output_text.delta")
    assert deltas > 1
    assert kinds[4 : 4 + deltas] == ["output_text.delta"] * deltas
    assert kinds[4 + deltas :] == ["output_text.done", "content_part.done", "output_item.done", "completed"]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert events[-1].response.output_text == text
    raw = stack.post("/v1/responses", {"model": "chat-m", "input": "hello", "stream": True})
    assert b"[DONE]" not in raw.body
    assert raw.header("cache-control") == "no-cache"


def test_resp_03_running_out_of_tokens_is_incomplete(client: openai.OpenAI) -> None:
    events = list(client.responses.create(model="chat-m", input="hello", max_output_tokens=2, stream=True))
    assert events[-1].response.status == "incomplete"
    assert events[-1].type in ("response.incomplete", "response.completed")  # the latter is how vLLM calls it


def test_resp_05_background_without_a_store_is_refused_by_name(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="chat-m", input="hello", background=True)
    error = assert_openai_error(caught.value, 400, param="background")
    assert "VLLM_" not in error["message"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_resp_07_an_unknown_model_is_not_found(client: openai.OpenAI, stream: bool) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.responses.create(model="nope", input="hello", stream=stream)
    assert_openai_error(caught.value, 404, code="model_not_found", contains="does not exist")


@pytest.mark.parametrize(("limit", "status"), [(None, "completed"), (3, "incomplete")])
def test_resp_08_the_stream_helper_gives_a_final_response(
    client: openai.OpenAI, limit: int | None, status: str
) -> None:
    extra: dict[str, Any] = {} if limit is None else {"max_output_tokens": limit}
    with client.responses.stream(model="chat-m", input="hello", **extra) as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert (final.status, final.output_text) == (status, text)


def test_messages_are_served_and_streamed(stack: Stack) -> None:
    body = {"model": "chat-m", "max_tokens": 4, "messages": [{"role": "user", "content": "hello"}]}
    assert stack.post("/v1/messages", body).json()["usage"]["output_tokens"] == 4
    streamed = stack.post("/v1/messages", body | {"stream": True})
    assert streamed.body.count(b"event: message_stop") == 1
    counted = stack.post("/v1/messages/count_tokens", {"model": "chat-m", "messages": body["messages"]})
    assert counted.json()["input_tokens"] > 0
