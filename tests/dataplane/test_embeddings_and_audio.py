"""Acceptance 7.6: embeddings, ranking, speech and tokens."""

import io
import json
import struct
import wave
from collections.abc import Iterator

import openai
import pytest

from tests.dataplane.openai_error import assert_openai_error
from tests.dataplane.raw import JSON, send
from tests.dataplane.stack import Stack

DIMENSIONS = 3072  # of the engine in the shared fleet
TRANSCRIPTIONS = "/v1/audio/transcriptions"


def wav(seconds: float = 0.1) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(b"\0\0" * int(16_000 * seconds))
    return buffer.getvalue()


def form(*parts: tuple[str, bytes], boundary: str = "cut-here") -> bytes:
    """Parts as (what follows `form-data; `, content)."""
    blocks = (
        f"--{boundary}\r\ncontent-disposition: form-data; {head}\r\n\r\n".encode() + content + b"\r\n"
        for head, content in parts
    )
    return b"".join(blocks) + f"--{boundary}--\r\n".encode()


FILE = ('name="file"; filename="a.wav"', wav())
MODEL = ('name="model"', b"asr-m")
FORM = {"content-type": "multipart/form-data; boundary=cut-here"}


def test_emb_01_an_embedding_is_a_list_of_floats(client: openai.OpenAI) -> None:
    found = client.embeddings.create(model="emb-m", input="hello")
    vector = found.data[0].embedding
    assert len(vector) == DIMENSIONS
    assert all(isinstance(value, float) for value in vector)
    assert found.usage.prompt_tokens == found.usage.total_tokens > 0
    assert found.model == "emb-m"


@pytest.mark.parametrize(
    "given", [["a", "b", "c"], [1, 2, 3], [[1, 2], [3], [4]]], ids=["texts", "tokens", "lists-of-tokens"]
)
def test_emb_02_embeddings_keep_the_order_of_inputs(client: openai.OpenAI, given: list[object]) -> None:
    found = client.embeddings.create(model="emb-m", input=given)
    expected = 1 if isinstance(given[0], int) else len(given)
    assert [entry.index for entry in found.data] == list(range(expected))
    single = client.embeddings.create(model="emb-m", input=given if expected == 1 else given[-1])
    assert found.data[-1].embedding == single.data[0].embedding


def test_emb_03_float_and_base64_say_the_same(stack: Stack, client: openai.OpenAI) -> None:
    floats = client.embeddings.create(model="emb-m", input="hello", encoding_format="float").data[0].embedding
    decoded = client.embeddings.create(model="emb-m", input="hello").data[0].embedding
    assert struct.pack(f"{DIMENSIONS}f", *floats) == struct.pack(f"{DIMENSIONS}f", *decoded)


@pytest.mark.slow
def test_emb_04_an_answer_of_a_hundred_megabytes_passes(stack: Stack) -> None:
    answer = stack.send(
        "POST", "/v1/embeddings", json.dumps({"model": "emb-m", "input": ["x"] * 2048}).encode(), JSON, timeout=60
    )
    assert answer.status == 200
    assert len(answer.body) > 60_000_000
    assert answer.body.endswith(b"}")


@pytest.mark.parametrize("given", [[], "", [""]], ids=["list", "text", "text-in-list"])
def test_emb_05_an_empty_input_is_refused(stack: Stack, given: object) -> None:
    assert_openai_error(stack.post("/v1/embeddings", {"model": "emb-m", "input": given}), 400, param="input")


@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/embeddings", {"model": "chat-m", "input": "x"}), ("/v1/rerank", {"model": "chat-m", "query": "x"}),
     ("/v1/chat/completions", {"model": "emb-m", "messages": []}), ("/v1/responses", {"model": "asr-m", "input": "x"})],
)  # fmt: skip
def test_emb_06_the_wrong_task_is_told_by_the_gateway(stack: Stack, path: str, body: dict[str, object]) -> None:
    answer = stack.post(path, body)
    assert_openai_error(answer, 400, param="model", contains="does not support this endpoint")


@pytest.mark.parametrize("path", ["/v1/rerank", "/rerank", "/v2/rerank"])
def test_rer_01_documents_are_ranked(stack: Stack, path: str) -> None:
    answer = stack.post(path, {"model": "emb-m", "query": "sun", "documents": ["the sun", "a dog", "sunny day"]})
    assert answer.status == 200
    found = answer.json()
    scores = [result["relevance_score"] for result in found["results"]]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == 3
    assert found["usage"]["total_tokens"] > 0


def test_score_is_served(stack: Stack) -> None:
    answer = stack.post("/v1/score", {"model": "emb-m", "text_1": "sun", "text_2": ["moon", "sun"]})
    assert len(answer.json()["data"]) == 2


def test_aud_01_speech_becomes_text(client: openai.OpenAI) -> None:
    assert client.audio.transcriptions.create(model="asr-m", file=("a.wav", wav())).text


def test_aud_01_speech_is_translated(stack: Stack) -> None:
    answer = stack.send("POST", "/v1/audio/translations", form(MODEL, FILE), FORM)
    assert answer.json()["text"]


def test_aud_01_the_file_may_come_before_the_model(stack: Stack) -> None:
    answer = stack.send("POST", TRANSCRIPTIONS, form(FILE, MODEL), FORM)
    assert answer.status == 200, answer
    assert answer.json()["text"]


@pytest.mark.slow
def test_aud_02_24_mb_pass_and_26_mb_do_not(stack: Stack) -> None:
    file = FILE[0]
    small = form((file, wav() + b"\0" * 24_000_000), MODEL)
    assert stack.send("POST", TRANSCRIPTIONS, small, FORM).status == 200
    large = form((file, wav() + b"\0" * 26_300_000), MODEL)
    error = assert_openai_error(stack.send("POST", TRANSCRIPTIONS, large, FORM), 413, code=None)
    assert error["message"] == f"413: Maximum content size limit (26214400) exceeded ({len(large)} bytes read)"


def test_aud_05_a_missing_model_is_asked_for(stack: Stack) -> None:
    answer = stack.send("POST", TRANSCRIPTIONS, form(FILE), FORM)
    assert_openai_error(answer, 400, contains="you must provide a model parameter")


def test_aud_05_a_missing_file_is_named(stack: Stack) -> None:
    answer = stack.send("POST", TRANSCRIPTIONS, form(MODEL), FORM)
    assert_openai_error(answer, 400, code="missing_required_parameter", param="file")


def test_aud_05_an_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.audio.transcriptions.create(model="nope", file=("a.wav", wav()))
    assert_openai_error(caught.value, 404, code="model_not_found")


def test_aud_06_a_form_cut_anywhere_is_read(stack: Stack) -> None:
    body = form(FILE, MODEL)

    def pieces(size: int) -> Iterator[bytes]:
        for at in range(0, len(body), size):
            yield body[at : at + size]

    for size in (1, 13, 997):
        assert stack.send("POST", TRANSCRIPTIONS, pieces(size), FORM).status == 200


@pytest.mark.parametrize("boundary", ["simple", "with space", "a=b:c?d/e,f(g)'h+i_j-k.l"])
def test_aud_06_a_quoted_boundary_is_read(stack: Stack, boundary: str) -> None:
    answer = stack.send(
        "POST", TRANSCRIPTIONS, form(FILE, MODEL, boundary=boundary),
        {"content-type": f'multipart/form-data; boundary="{boundary}"'},
    )  # fmt: skip
    assert answer.status == 200, answer


@pytest.mark.parametrize("name", ["a%0D%0A.wav", "a\\r\\n.wav", 'a\\".wav', "name=model.wav", "日本.wav"], ids=range(5))
def test_aud_06_odd_file_names_are_harmless(stack: Stack, name: str) -> None:
    odd = (f'name="file"; filename="{name}"', wav())
    assert stack.send("POST", TRANSCRIPTIONS, form(odd, MODEL), FORM).status == 200


@pytest.mark.parametrize(
    ("content_type", "body"),
    [("multipart/form-data", form(FILE, MODEL)), ("multipart/form-data; boundary=other", form(FILE, MODEL)),
     ("multipart/form-data; boundary=cut-here", b""), ("multipart/form-data; boundary=cut-here", form(MODEL)[:20]),
     ("application/json", b'{"model":"asr-m"}')],
    ids=["no-boundary", "other-boundary", "empty", "cut", "json"],
)  # fmt: skip
def test_aud_06_a_form_that_is_none_is_refused_in_shape(stack: Stack, content_type: str, body: bytes) -> None:
    assert_openai_error(stack.send("POST", TRANSCRIPTIONS, body, {"content-type": content_type}), 400)


HUGE = ('name="model"\r\nx-long: ' + "y" * 2**20, b"asr-m")
INNER = form(('name="model"', b"asr-m"), boundary="inner")
NESTED = ('name="model"\r\ncontent-type: multipart/mixed; boundary=inner', INNER)


@pytest.mark.parametrize(
    ("parts", "status"),
    [((FILE, HUGE), 400), ((FILE, *[('name="a"', b"x")] * 10_000, MODEL), 400), ((FILE, NESTED), 404)],
    ids=["header-of-a-megabyte", "10,000-parts", "nested"],
)
def test_aud_06_a_hostile_form_is_refused_in_shape(
    stack: Stack, parts: tuple[tuple[str, bytes], ...], status: int
) -> None:
    error = assert_openai_error(stack.send("POST", TRANSCRIPTIONS, form(*parts), FORM), status)
    assert len(error["message"]) < 1000


def test_tok_01_tokenize_needs_a_key_and_a_model(stack: Stack) -> None:
    body = {"model": "chat-m", "prompt": "hello world"}
    found = stack.post("/tokenize", body)
    assert found.status == 200
    assert found.json()["count"] == len(found.json()["tokens"])
    back = stack.post("/detokenize", {"model": "chat-m", "tokens": found.json()["tokens"]})
    assert back.json()["prompt"] == "hello world"
    assert_openai_error(send(stack.port, "POST", "/tokenize", JSON, json.dumps(body).encode()), 401)
    assert_openai_error(stack.post("/tokenize", {"prompt": "x"}), 400)


def test_aud_03_streamed_transcription_is_deltas_and_the_whole_text(client: openai.OpenAI) -> None:
    stream = client.audio.transcriptions.create(model="asr-m", file=("a.wav", wav()), stream=True)
    *deltas, done = list(stream)
    assert {event.type for event in deltas} == {"transcript.text.delta"}
    assert done.type == "transcript.text.done"
    assert done.text == "".join(event.delta for event in deltas)


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # in the newest SDKs
def test_translation_that_is_streamed_all_the_same_is_watched(client: openai.OpenAI) -> None:
    extra = {"stream": "true", "stream_include_usage": "true"}
    raw = client.audio.translations.with_raw_response.create(model="asr-m", file=("a.wav", wav()), extra_body=extra)
    *deltas, done = (json.loads(line.removeprefix("data: ")) for line in raw.text.split("\n\n") if line)
    assert {event["type"] for event in deltas} == {"transcript.text.delta"}
    assert done["text"] == "".join(event["delta"] for event in deltas)
    assert done["usage"]["total_tokens"] > 0


def test_aud_04_transcription_as_text_is_a_string(client: openai.OpenAI) -> None:
    text = client.audio.transcriptions.create(model="asr-m", file=("a.wav", wav()), response_format="text")
    assert isinstance(text, str)
    assert text.strip() == client.audio.transcriptions.create(model="asr-m", file=("a.wav", wav())).text.strip()
