"""The acceptance cases marked with a star, for any generation of openai-python; runs alone, knows nothing of us.

`cases.py BASE_URL KEY STORED_BASE_URL` prints one JSON object per line: the SDK's version first, then each case and why
it failed. Cases of files, uploads and batches go to the second base URL.
"""

import io
import json
import sys
import time
import traceback
import wave
from collections.abc import Callable
from typing import Any

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


STORED = ("file_", "upl_", "bat_")
QUESTIONS = "\n".join(
    json.dumps({"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": CHAT})
    for name in ("one", "two", "three")
).encode()


@case
def file_01_12_13_create_content_delete(client: openai.OpenAI) -> None:
    made = client.files.create(file=("in.jsonl", QUESTIONS), purpose="batch")
    assert (made.bytes, made.filename, made.status) == (len(QUESTIONS), "in.jsonl", "processed")
    assert client.files.retrieve(made.id).id == made.id
    assert client.files.wait_for_processing(made.id).status == "processed"
    assert client.files.content(made.id).read() == QUESTIONS
    with client.files.with_streaming_response.content(made.id) as streamed:
        assert b"".join(streamed.iter_bytes(100)) == QUESTIONS
    assert client.files.delete(made.id).deleted
    error_of(openai.NotFoundError, lambda: client.files.content(made.id))


@case
def file_04_unknown_purpose(client: openai.OpenAI) -> None:
    error = error_of(openai.BadRequestError, lambda: client.files.create(file=("a", b"x"), purpose="bogus"))
    assert error.param == "purpose"


@case
def file_09_list_pages_by_itself(client: openai.OpenAI) -> None:
    made = [client.files.create(file=("a.txt", b"x"), purpose="user_data").id for _ in range(5)]
    assert sorted(one.id for one in client.files.list(limit=2, purpose="user_data")) == sorted(made)
    for file_id in made:
        client.files.delete(file_id)


@case
def upl_01_file_in_chunks(client: openai.OpenAI) -> None:
    done = client.uploads.upload_file_chunked(
        file=QUESTIONS, filename="in.jsonl", bytes=len(QUESTIONS), mime_type="application/jsonl", purpose="batch",
        part_size=100,
    )  # fmt: skip
    assert done.file is not None
    assert client.files.content(done.file.id).read() == QUESTIONS


def ended(client: openai.OpenAI, content: bytes) -> Any:
    """A batch over this content, when it has ended."""
    file = client.files.create(file=("in.jsonl", content), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    assert batch.status == "validating"
    ends_at = time.monotonic() + 60
    while batch.status not in ("completed", "failed", "expired", "cancelled"):
        assert time.monotonic() < ends_at, batch
        time.sleep(0.1)
        batch = client.batches.retrieve(batch.id)
    return batch


@case
def bat_01_18_21_run_cancel_list(client: openai.OpenAI) -> None:
    done = ended(client, QUESTIONS)
    assert (done.status, done.request_counts.completed) == ("completed", 3), done
    rows = [json.loads(row) for row in client.files.content(done.output_file_id).text.splitlines()]
    assert [row["custom_id"] for row in rows] == ["one", "two", "three"]
    assert all(row["response"]["body"]["object"] == "chat.completion" for row in rows)
    error_of(openai.ConflictError, lambda: client.batches.cancel(done.id))
    assert done.id in [one.id for one in client.batches.list(limit=1)]


@case
def bat_09_bad_line(client: openai.OpenAI) -> None:
    done = ended(client, QUESTIONS + b"\n{bad")
    assert done.status == "failed"
    assert [(one.code, one.line) for one in done.errors.data] == [("invalid_json_line", 4)]


@case
def bat_20_unknown_batch(client: openai.OpenAI) -> None:
    for call in (client.batches.retrieve, client.batches.cancel):
        error_of(openai.NotFoundError, lambda call=call: call("batch_unknown"))  # type: ignore[misc]


def main(base_url: str, key: str, stored_base_url: str) -> None:
    """Run all cases."""
    print(json.dumps({"version": openai.__version__}))  # noqa: T201
    client = openai.OpenAI(base_url=base_url, api_key=key, max_retries=0, timeout=20)
    stored = openai.OpenAI(base_url=stored_base_url, api_key=key, max_retries=0, timeout=20)
    for name, run in CASES.items():
        failure = None
        try:
            run(stored if name.startswith(STORED) else client)
        except Exception:  # noqa: BLE001 - whatever a case raises is its result
            failure = traceback.format_exc(limit=-3)
        print(json.dumps({"case": name, "failure": failure}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
