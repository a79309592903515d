"""Usage wherever it stands in an answer, and nothing that only looks like it."""

import json
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.lua.driver import cut, cut_at, send
from tests.lua.streams import CHAT_USAGE, COUNTED

JSON: Final = "application/json"
NO_USAGE: Final = {"unmetered": "no_usage"}
FORGED: Final[dict[str, Any]] = {"usage": {"prompt_tokens": 999_999, "completion_tokens": 1, "total_tokens": 1_000_000}}
PROMPT_LOGPROBS: Final = [None, *({str(at): {"logprob": -1.5, "decoded_token": '"usage":{'}} for at in range(3000))]
MESSAGE_USAGE: Final = {"input_tokens": 2, "cache_read_input_tokens": 8, "cache_creation_input_tokens": 1,
                        "output_tokens": 3}  # fmt: skip


def report(sent: bytes, size: int = 16_384) -> dict[str, Any]:
    passed = send(cut(sent, size), content_type=JSON)
    assert passed.body == sent
    return passed.metadata


ANSWERS: Final[dict[str, dict[str, Any]]] = {
    "chat with token ids": {"choices": [{"message": {"content": "y" * 5000}, "token_ids": [7] * 9000}],
                            "usage": CHAT_USAGE, "prompt_token_ids": list(range(30_000))},
    "chat with prompt_logprobs": {"choices": [], "usage": CHAT_USAGE, "prompt_logprobs": PROMPT_LOGPROBS},
    "chat with prompt_text": {"choices": [], "usage": CHAT_USAGE, "prompt_text": 'He said "usage":{"x":1} \\ ' * 2000},
    "response with a long user": {"output": [], "tools": [FORGED, {"parameters": {"properties": FORGED}}],
                                  "usage": CHAT_USAGE, "user": "u" * 5000, "metadata": {"usage": "x"}},
    "response that repeats its input": {"usage": CHAT_USAGE, "input_messages": [[FORGED, [FORGED]]] * 50},
    "rerank": {"id": "x", "usage": CHAT_USAGE, "results": [{"document": {"text": json.dumps(FORGED)}}] * 500},
    "tool of a message": {"type": "message", "content": [{"type": "tool_use", "input": FORGED}] * 3,
                          "usage": MESSAGE_USAGE},
    "tool behind": {"usage": MESSAGE_USAGE, "content": [{"type": "tool_use", "input": {"a": [FORGED, FORGED]}}]},
    "tool around": {"content": {"usage": {"usage": FORGED, "prompt_tokens": 5}}, "usage": CHAT_USAGE, "z": FORGED},
    "key with a quote": {"a\\": 1, '\\"usage': FORGED, 'x"': '"usage":{', "usage": CHAT_USAGE, '{"usage': [FORGED]},
    "usage as a value": {"a": "usage", "b": ["usage", {"usage": None}, "usage"], "usage": CHAT_USAGE},
}  # fmt: skip


@pytest.mark.parametrize("size", [1, 13, 4096, 16_384, 10_000_000])
@pytest.mark.parametrize("indent", [None, 2], ids=["close", "indented"])
@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_usage_is_found_wherever_it_stands(answer: dict[str, Any], indent: int | None, size: int) -> None:
    assert report(json.dumps(answer, indent=indent).encode(), size) == COUNTED


@pytest.mark.parametrize(
    "answer",
    [{"choices": [FORGED]}, {"content": [{"input": FORGED}], "usage": None}, {"a": {"b": FORGED}}, {"a": [[FORGED]]},
     {"text": json.dumps(FORGED)}, {"usage": [FORGED]}, {"usages": FORGED, "Usage": FORGED["usage"]},
     {"usage": {"prompt_tokens": 1, "pad": "x" * 5000}}],
    ids=lambda one: json.dumps(one)[:40],
)  # fmt: skip
@pytest.mark.parametrize("size", [1, 50, 100_000])
def test_what_only_looks_like_usage_is_never_counted(answer: dict[str, Any], size: int) -> None:
    assert report(json.dumps(answer).encode(), size) == NO_USAGE


_KEYS: Final = st.sampled_from(["usage", "a", '"usage', 'x"', "usage\\", "\\", "prompt_tokens", "choices"])
_TEXTS: Final = st.sampled_from(['"usage":{"prompt_tokens":1}', "usage", "\\", '\\"', '"', "{", "}]", "", ',"usage":{'])
_COUNTS: Final = st.fixed_dictionaries({"prompt_tokens": st.integers(0, 99), "completion_tokens": st.integers(0, 99)})
_VALUES: Final = st.recursive(
    st.none() | st.integers(0, 9) | _TEXTS | _COUNTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=25,
)


@given(
    answer=st.dictionaries(_KEYS, _VALUES, max_size=6),
    places=st.lists(st.integers(0, 2000), max_size=30),
    indent=st.none() | st.integers(0, 2),
)
def test_the_meter_reads_what_a_json_parser_reads(
    answer: dict[str, Any], places: list[int], indent: int | None
) -> None:
    sent = json.dumps(answer, indent=indent).encode()
    passed = send(cut_at(sent, places), content_type=JSON)
    usage = answer.get("usage")
    if not isinstance(usage, dict) or "prompt_tokens" not in usage or not isinstance(usage["prompt_tokens"], int):
        return
    if any(isinstance(value, list | dict) for value in usage.values()):
        return
    output = usage.get("completion_tokens", 0)
    assert passed.metadata["input_tokens"] == usage["prompt_tokens"]
    assert passed.metadata["output_tokens"] == output


@given(answer=st.dictionaries(_KEYS.filter(lambda key: key != "usage"), _VALUES, max_size=6),
       places=st.lists(st.integers(0, 2000), max_size=30))  # fmt: skip
def test_the_meter_reads_nothing_where_a_json_parser_finds_none(answer: dict[str, Any], places: list[int]) -> None:
    assert send(cut_at(json.dumps(answer).encode(), places), content_type=JSON).metadata == NO_USAGE


@pytest.mark.parametrize("size", [1, 100_000])
def test_counts_of_an_object_inside_are_not_those_of_the_usage(size: int) -> None:
    inside = {"cached_tokens": 8, "prompt_tokens": 500, "completion_tokens": 70, "total_tokens": 900}
    flat = {name: value for name, value in CHAT_USAGE.items() if name != "prompt_tokens_details"}
    answer = {"id": "x", "usage": {"prompt_tokens_details": inside, "a": {"b": inside}, **flat}}
    assert report(json.dumps(answer).encode(), size) == COUNTED
    nothing = {"id": "x", "usage": {"completion_tokens_details": {"input_tokens": 5, "total_tokens": 9}}}
    assert report(json.dumps(nothing).encode(), size) == NO_USAGE
