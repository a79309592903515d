"""The acceptance cases marked with a star, for any generation of openai-python; runs alone, knows nothing of us.

`cases.py BASE_URL KEY` prints one JSON object per line: the SDK's version first, then each case and why it failed.
"""

import io
import json
import sys
import traceback
import wave
from collections.abc import Callable

import openai

HELLO = [{"role": "user", "content": "hello"}]
CHAT = {"model": "chat-m", "messages": HELLO, "max_tokens": 8, "seed": 3}
CASES: dict[str, Callable[[openai.OpenAI], None]] = {}


def case(function: Callable[[openai.OpenAI], None]) -> Callable[[openai.OpenAI], None]:
    """List a case."""
    CASES[function.__name__] = function
    return function


def error_of(kind: type[openai.APIStatusError], call: Callable[[], object]) -> openai.APIStatusError:
    """The exception that a call must raise."""
    error = raised(call)
    assert isinstance(error, kind), f"{kind.__name__} was not raised but {error!r}"
    body = error.response.json()["error"]
    assert set(body) == {"message", "type", "param", "code"}, body
    assert body["code"] is None or isinstance(body["code"], str), body
    assert error.request_id
    return error


def raised(call: Callable[[], object]) -> Exception | None:
    """What a call raises, if it does."""
    try:
        call()
    except Exception as error:  # noqa: BLE001 - the caller looks at it
        return error
    return None


@case
def auth_02_wrong_key(client: openai.OpenAI) -> None:
    wrong = client.with_options(api_key="sk-wrong-0123456789abcdef")
    error = error_of(openai.AuthenticationError, lambda: wrong.models.list())
    assert error.code == "invalid_api_key"
    assert "sk-wrong-0123456789abcdef" not in str(error)


@case
def hdr_01_request_id(client: openai.OpenAI) -> None:
    ids = set()
    for _ in range(3):
        raw = client.chat.completions.with_raw_response.create(**CHAT)
        assert raw.parse()._request_id == raw.headers["x-request-id"]
        ids.add(raw.headers["x-request-id"])
    assert len(ids) == 3


@case
def req_07_unknown_model(client: openai.OpenAI) -> None:
    for stream in (False, True):
        call = lambda: client.chat.completions.create(**{**CHAT, "model": "nope", "stream": stream})  # noqa: B023, E731
        error = error_of(openai.NotFoundError, call)
        assert error.code == "model_not_found"
        assert "does not exist" in str(error)


@case
def req_14_context_length(client: openai.OpenAI) -> None:
    messages = [{"role": "user", "content": "word " * 4000}]
    call = lambda: client.chat.completions.create(model="org/chat-s", messages=messages)  # noqa: E731
    error = error_of(openai.BadRequestError, call)
    assert error.code == "context_length_exceeded"
    assert "maximum context length is 512 tokens" in str(error)


@case
def chat_01_create(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(**CHAT)
    assert completion.model == "chat-m"
    assert completion.choices[0].message.content
    usage = completion.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


@case
def chat_02_stream(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(**CHAT)
    chunks = list(client.chat.completions.create(**CHAT, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert len([chunk for chunk in chunks if chunk.choices[0].finish_reason]) == 1


@case
def chat_03_stream_usage(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(**CHAT, stream=True, stream_options={"include_usage": True}))
    assert [chunk for chunk in chunks if not chunk.choices] == chunks[-1:]
    assert chunks[-1].usage.completion_tokens == 8


@case
def comp_01_completions(client: openai.OpenAI) -> None:
    completion = client.completions.create(model="chat-m", prompt=["one", "two"], max_tokens=4)
    assert [choice.index for choice in completion.choices] == [0, 1]
    chunks = list(client.completions.create(model="chat-m", prompt="one", stream=True, max_tokens=4))
    assert "".join(chunk.choices[0].text for chunk in chunks)


@case
def resp_01_create(client: openai.OpenAI) -> None:
    response = client.responses.create(model="chat-m", input="hello")
    assert response.output_text
    assert response.usage.input_tokens > 0


@case
def resp_02_stream(client: openai.OpenAI) -> None:
    events = list(client.responses.create(model="chat-m", input="hello", stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"


@case
def emb_01_embeddings(client: openai.OpenAI) -> None:
    found = client.embeddings.create(model="emb-m", input="hello")
    assert all(isinstance(value, float) for value in found.data[0].embedding)
    assert found.usage.prompt_tokens > 0


@case
def aud_01_transcription(client: openai.OpenAI) -> None:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(bytes(3200))
    assert client.audio.transcriptions.create(model="asr-m", file=("a.wav", buffer.getvalue())).text


@case
def mod_01_list(client: openai.OpenAI) -> None:
    first, second = client.models.list(), client.models.list()
    assert {"chat-m", "org/chat-s", "lora-1"} <= {card.id for card in first}
    assert [card.created for card in first.data] == [card.created for card in second.data]


@case
def mod_02_retrieve_with_a_slash(client: openai.OpenAI) -> None:
    assert client.models.retrieve("org/chat-s").id == "org/chat-s"


@case
def err_05_stream_cut_short(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        **CHAT, stream=True, extra_headers={"x-sim-fault": "reset-mid-stream;after=3"}
    )
    error = raised(lambda: list(stream))
    assert error is not None, "a stream that was cut ended like a good one"
    # Older generations let the HTTP library's own error through.
    assert type(error).__module__.split(".")[0] in ("openai", "httpx", "httpcore"), error


def main(base_url: str, key: str) -> None:
    """Run all cases."""
    print(json.dumps({"version": openai.__version__}))  # noqa: T201
    client = openai.OpenAI(base_url=base_url, api_key=key, max_retries=0, timeout=20)
    for name, run in CASES.items():
        failure = None
        try:
            run(client)
        except Exception:  # noqa: BLE001 - whatever a case raises is its result
            failure = traceback.format_exc(limit=-3)
        print(json.dumps({"case": name, "failure": failure}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
