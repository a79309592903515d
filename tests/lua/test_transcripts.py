"""vLLM's transcription stream becomes OpenAI's: deltas, then the whole text."""

import json

import pytest

from tests.lua.driver import cut, send


def chunk(content: str | None, **more: object) -> bytes:
    delta = {} if content is None else {"content": content}
    fields = {"id": "trsc-1", "object": "transcription.chunk", "choices": [{"index": 0, "delta": delta}], **more}
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


TEXTS = ["Hello", ' "big"', " wörld \n", "\\ \U0001f600", "."]
STREAM = chunk("") + b"".join(map(chunk, TEXTS))
USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
ENDED = STREAM + chunk(None, choices=[], usage=USAGE) + b"data: [DONE]\n\n"


def events(body: bytes) -> list[dict[str, object]]:
    return [json.loads(line.removeprefix(b"data: ")) for line in body.split(b"\n\n") if line]


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
def test_transcript_chunks_become_deltas_and_the_whole_text(size: int) -> None:
    passed = send(cut(ENDED, size), stream="transcript")
    *deltas, done = events(passed.body)
    assert [one["type"] for one in deltas] == ["transcript.text.delta"] * len(TEXTS)
    assert [one["delta"] for one in deltas] == TEXTS
    assert done == {
        "type": "transcript.text.done",
        "text": "".join(TEXTS),
        "usage": {"type": "tokens", "input_tokens": 7, "output_tokens": 5, "total_tokens": 12},
    }
    assert passed.metadata["terminal"] is True


def test_transcript_without_usage_ends_without_usage() -> None:
    done = events(send([STREAM + b"data: [DONE]\n\n", b""], stream="transcript").body)[-1]
    assert done == {"type": "transcript.text.done", "text": "".join(TEXTS)}


def test_transcript_that_stops_early_is_no_success() -> None:
    passed = send(cut(STREAM, 9), stream="transcript")
    last = events(passed.body)[-1]
    assert isinstance(last["error"], dict)
    assert last["error"]["code"] == "upstream_error"
    assert passed.metadata["terminal"] is False


def test_error_in_a_transcript_is_told_in_the_words_of_the_api() -> None:
    body = STREAM + b'data: {"error":{"message":"x","type":"InternalServerError","code":500}}\n\ndata: [DONE]\n\n'
    errors = [one["error"] for one in events(send([body, b""], stream="transcript").body) if "error" in one]
    assert len(errors) == 1
    assert isinstance(errors[0], dict)
    assert errors[0]["code"] == "upstream_error"


@pytest.mark.parametrize("size", [1, 64, 10_000])
def test_translation_streams_as_a_transcript_does(size: int) -> None:
    translated = ENDED.replace(b"transcription.chunk", b"translation.chunk")
    assert translated != ENDED
    passed, expected = (send(cut(one, size), stream="transcript") for one in (translated, ENDED))
    assert (passed.body, passed.metadata) == (expected.body, expected.metadata)
