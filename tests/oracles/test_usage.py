"""Usage as each operation tells it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.core.openai.wire.usage import Usage
from tests.oracles.usage import usage_from_json

BODIES = [
    ("chat completion",
     {"id": "c", "choices": [{"message": {"content": '"usage"'}}],
      "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12,
                "prompt_tokens_details": {"cached_tokens": 3}}},
     Usage(5, 7, 12, 3)),
    ("completion without details",
     {"usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12, "prompt_tokens_details": None}},
     Usage(5, 7, 12)),
    ("response",
     {"object": "response", "usage": {"input_tokens": 5, "output_tokens": 7, "total_tokens": 12,
                                      "input_tokens_details": {"cached_tokens": 2},
                                      "output_tokens_details": {"reasoning_tokens": 1}}},
     Usage(5, 7, 12, 2)),
    ("message", {"type": "message", "usage": {"input_tokens": 5, "output_tokens": 7}}, Usage(5, 7, 12)),
    ("message with a cache",
     {"usage": {"input_tokens": 5, "output_tokens": 7, "cache_read_input_tokens": 20,
                "cache_creation_input_tokens": 1}},
     Usage(26, 7, 33, 20)),
    ("chat with another's cache field",
     {"usage": {"prompt_tokens": 25, "completion_tokens": 7, "cache_read_input_tokens": 20}}, Usage(25, 7, 32, 20)),
    ("message with an unset cache",
     {"usage": {"input_tokens": 5, "output_tokens": 7, "cache_read_input_tokens": None}}, Usage(5, 7, 12)),
    ("embedding", {"data": [[0.1] * 50], "usage": {"prompt_tokens": 9, "total_tokens": 9, "completion_tokens": 0}},
     Usage(9, 0, 9)),
    ("rerank", {"results": [], "usage": {"prompt_tokens": 4, "total_tokens": 4}}, Usage(4, 0, 4)),
    ("rerank with a sum alone", {"usage": {"total_tokens": 4}}, Usage(4, 0, 4)),
    ("transcription in tokens",
     {"text": "x", "usage": {"type": "tokens", "input_tokens": 14, "output_tokens": 45, "total_tokens": 59}},
     Usage(14, 45, 59)),
    ("transcription in seconds", {"text": "x", "usage": {"type": "duration", "seconds": 3}}, None),
    ("nothing asked", {"choices": [], "usage": None}, None),
    ("no usage", {"choices": []}, None),
    ("empty usage", {"usage": {}}, None),
    ("usage of a wrong type", {"usage": [1]}, None),
    ("counts of wrong types",
     {"usage": {"prompt_tokens": "5", "completion_tokens": True, "total_tokens": -1, "output_tokens": 1.5}}, None),
    ("one count of a wrong type", {"usage": {"prompt_tokens": 5, "completion_tokens": "7"}}, Usage(5, 0, 5)),
    ("inner object of a wrong type", {"response": "x", "message": 5}, None),
    ("an array", [{"usage": {"total_tokens": 1}}], None),
]  # fmt: skip


@pytest.mark.parametrize(("body", "expected"), [pytest.param(*row[1:], id=row[0]) for row in BODIES])
def test_usage_of_a_body_is_read(body: Any, expected: Usage | None) -> None:
    assert usage_from_json(json.dumps(body).encode()) == expected


@pytest.mark.parametrize("body", [b"", b"{", b"not json", b'{"usage": {"prompt_tokens": 1', b"[" * 5000, b"\xff"])
def test_usage_of_a_broken_body_is_none(body: bytes) -> None:
    assert usage_from_json(body) is None


@given(st.binary(max_size=200))
def test_usage_of_any_bytes_never_raises(body: bytes) -> None:
    usage_from_json(body)


numbers = st.none() | st.integers() | st.booleans() | st.text(max_size=3) | st.floats(allow_nan=False)
NAMES = ("prompt_tokens", "input_tokens", "completion_tokens", "output_tokens", "total_tokens",
         "cache_read_input_tokens", "prompt_tokens_details", "cached_tokens")  # fmt: skip


@given(st.dictionaries(st.sampled_from(NAMES), numbers | st.dictionaries(st.sampled_from(NAMES), numbers)))
def test_usage_of_any_fields_is_none_or_counts(fields: dict[str, object]) -> None:
    usage = usage_from_json(json.dumps({"usage": fields}).encode())
    if usage is not None:
        assert min(usage.input_tokens, usage.output_tokens, usage.total_tokens, usage.cached_tokens) >= 0
