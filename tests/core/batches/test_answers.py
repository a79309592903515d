"""The body of an answer as one line of JSON, however an engine writes it, and the usage in it."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aibrix_extproc.core.batches.answers import read_answer
from aibrix_extproc.core.batches.records import Usage
from aibrix_extproc.core.batches.results import answered, files_of, not_executed, read_segment, segment

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON, st.sampled_from([None, 2]), st.booleans())
def test_any_json_becomes_one_line_that_says_the_same(value: Any, indent: int | None, ascii_only: bool) -> None:
    raw = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "replace")
    found = read_answer(raw)
    assert found is not None
    assert not {10, 13} & set(found.text)
    assert json.loads(found.text) == json.loads(raw)


@pytest.mark.parametrize(
    "raw", [b"<html>", b'{"a":1', b'{"a":"\xff"}', b'{"a":"x\ny"}', b"{'a':1}", b'{"a":1} b', b"[" * 100_000]
)  # fmt: skip
def test_what_is_no_json_is_none(raw: bytes) -> None:
    assert read_answer(raw) is None


def test_half_of_a_surrogate_pair_does_not_break_the_file() -> None:
    found = read_answer(b'{"a":"\\ud800"}')
    assert found is not None
    assert json.loads(found.text) == {"a": "?"}


def test_empty_body_is_null() -> None:
    found = read_answer(b"")
    assert found is not None
    assert (found.text, found.usage) == (b"null", Usage())


CHAT = {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}}
RESPONSES = {"input_tokens": 3, "output_tokens": 2, "output_tokens_details": {"reasoning_tokens": 1}}


@pytest.mark.parametrize(
    ("usage", "wanted"),
    [
        (CHAT, Usage(3, 1, 2, 0)), (RESPONSES, Usage(3, 0, 2, 1)), (None, Usage()), ("x", Usage()), ([], Usage()),
        ({"prompt_tokens": -1, "completion_tokens": True, "prompt_tokens_details": 5}, Usage()),
    ],
)  # fmt: skip
@pytest.mark.parametrize("indent", [None, 1])
def test_usage_is_read_from_either_way_of_writing(usage: object, wanted: Usage, indent: int | None) -> None:
    found = read_answer(json.dumps({"id": "x", "usage": usage}, indent=indent).encode())
    assert found is not None
    assert found.usage == wanted


@given(st.text(), st.text(max_size=20))
@example("\u2028\u2029\x85", "r")
def test_results_come_back_from_their_segment(custom_id: str, request_id: str) -> None:
    body = json.dumps({"text": custom_id}, ensure_ascii=False).encode()
    good = answered(2, custom_id, request_id, 200, body, result_id="r-2")
    bad = not_executed(1, custom_id, {"code": "c", "message": "m"}, result_id="r-1")
    output, errors = files_of(read_segment(segment([good, bad])))
    assert len(output.decode().splitlines()) == len(errors.decode().splitlines()) == 1
    assert json.loads(output) == {
        "id": "r-2", "custom_id": custom_id, "error": None,
        "response": {"status_code": 200, "request_id": request_id, "body": {"text": custom_id}},
    }  # fmt: skip
    assert json.loads(errors) == {
        "id": "r-1", "custom_id": custom_id, "response": None, "error": {"code": "c", "message": "m"},
    }  # fmt: skip
