"""Usage of answers that are no streams: read from the tail, or the head, of what passes untouched."""

import json
from typing import Any

import pytest

from tests.lua.driver import cut, send
from tests.lua.streams import CHAT_USAGE, COUNTED

JSON = "application/json"


def body(**more: Any) -> bytes:
    return json.dumps(
        {"id": "x", "choices": [{"message": {"content": '"usage":{"prompt_tokens":1}'}}], **more}
    ).encode()


@pytest.mark.parametrize("size", [1, 7, 100, 5000, 100_000])
@pytest.mark.parametrize("content", ["", "x" * 50_000], ids=["small", "large"])
def test_usage_is_taken_at_any_cut_and_nothing_changes(size: int, content: str) -> None:
    sent = body(data=content, usage=CHAT_USAGE, prompt_logprobs=None, kv_transfer_params={"x": "y" * 500})
    passed = send(cut(sent, size), content_type=JSON, stream="", headers={"content-length": str(len(sent))})
    assert passed.body == sent
    assert passed.metadata == COUNTED
    assert passed.headers["content-length"] == str(len(sent))


def test_rerankers_tell_it_first() -> None:
    sent = json.dumps({"id": "x", "model": "m", "usage": {"total_tokens": 7}, "results": ["x" * 30_000]}).encode()
    assert send(cut(sent, 16_384), content_type=JSON).metadata == {
        "input_tokens": 7, "output_tokens": 0, "total_tokens": 7,
    }  # fmt: skip


@pytest.mark.parametrize(
    "usage", [None, 5, [], {"prompt_tokens": "3"}, {"prompt_tokens": -1}, {"seconds": "3"}], ids=str
)
def test_what_is_no_count_gives_none(usage: object) -> None:
    assert send([body(usage=usage)], content_type=JSON).metadata == {"unmetered": "no_usage"}


@pytest.mark.parametrize("seconds", [3, 0.5, 86_400])
def test_audio_is_told_in_seconds(seconds: float) -> None:
    sent = body(usage={"type": "duration", "seconds": seconds})
    assert send([sent], content_type=JSON).metadata == {"audio_seconds": seconds}


@pytest.mark.parametrize(
    ("sent", "reason"),
    [(b"", "not_json"), (b"{", "no_usage"), (b'{"usage":', "no_usage"), (b'{"usage":{"prompt_tokens":1', "no_usage"),
     (b"[]", "not_json"), (b"\xff\x00", "not_json"), (b'{"usage":{"prompt_tokens":1}', "no_usage")],
    ids=repr,
)  # fmt: skip
def test_what_cannot_be_read_gives_none(sent: bytes, reason: str) -> None:
    passed = send([sent], content_type=JSON)
    assert passed.body == sent
    assert passed.metadata == {"unmetered": reason}


def test_a_clients_words_are_no_usage() -> None:
    sent = body(usage=CHAT_USAGE, tools=[{"properties": {"usage": {"type": "object"}}}])
    assert send([sent], content_type=JSON).metadata == COUNTED
