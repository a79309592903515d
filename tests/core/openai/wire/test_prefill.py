"""A request is split in two, and both halves mean what the whole meant."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.core.openai.wire.prefill import Split, Unsplit, read_answer, split
from aibrix_extproc.core.openai.wire.splice import in_order, spliced

CHAT = ("max_completion_tokens", "max_tokens")
TRANSFER = b'{"do_remote_prefill":true,"remote_block_ids":[[1,2]],"remote_host":"10.0.0.9"}'
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8), lambda of: st.lists(of, max_size=3)
)
MEMBERS = st.fixed_dictionaries(
    {"model": st.just("m")},
    optional={
        "stream": st.booleans(), "stream_options": st.none() | st.just({"include_usage": True}),
        "min_tokens": st.integers(0, 9), "max_tokens": st.integers(1, 9), "max_completion_tokens": st.integers(1, 9),
        "n": st.sampled_from([None, 1]), "kv_transfer_params": st.none(), "echo": st.sampled_from([None, False]),
        "messages": JSON, "text": JSON, 'quo"ted': JSON, "prompt": st.text() | st.lists(st.integers(0, 9), min_size=1),
    },
)  # fmt: skip


def body_of(members: dict[str, Any], indent: int | None) -> tuple[bytes, int]:
    body = json.dumps(members, indent=indent).encode()
    return body, body.index(b"{") + 1


@given(MEMBERS, st.sampled_from([None, 1]), st.sampled_from([CHAT, ("max_tokens",)]))
def test_both_halves_are_the_request_but_for_what_is_written(
    members: dict[str, Any], indent: int | None, limits: tuple[str, ...]
) -> None:
    body, inside = body_of(members, indent)
    found = split(body, inside, limits)
    assert isinstance(found, Split)
    first = json.loads(spliced(body, in_order(found.prefill)))
    asked = first.pop("kv_transfer_params")
    assert (asked["do_remote_decode"], asked["do_remote_prefill"], asked["remote_host"]) == (True, False, None)
    replaced = {"stream": False, "stream_options": None, "min_tokens": 0} | dict.fromkeys(limits, 1)
    wanted = {name: replaced.get(name, value) for name, value in members.items()} | {limits[0]: 1}
    wanted.pop("kv_transfer_params", None)
    assert first == wanted
    second = json.loads(spliced(body, (found.with_transfer(TRANSFER),)))
    assert second == members | {"kv_transfer_params": json.loads(TRANSFER)}


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ({"n": 2}, Unsplit.ANSWERS),
        ({"best_of": 3}, Unsplit.ANSWERS),
        ({"use_beam_search": True}, Unsplit.ANSWERS),
        ({"prompt": ["a", "b"]}, Unsplit.PROMPTS),
        ({"prompt": [[1], [2]]}, Unsplit.PROMPTS),
        ({"prompt_logprobs": 1}, Unsplit.LOGPROBS),
        ({"echo": True}, Unsplit.LOGPROBS),
        ({"kv_transfer_params": {"do_remote_decode": True, "remote_host": "10.6.6.6"}}, Unsplit.TRANSFER),
    ],
)
def test_requests_that_one_prefill_does_not_serve_are_not_split(members: dict[str, Any], why: Unsplit) -> None:
    assert split(*body_of({"model": "m"} | members, None), CHAT) is why


def test_of_members_that_come_twice_the_last_one_counts() -> None:
    body = b'{"max_tokens":7,"stream":false,"kv_transfer_params":{"remote_host":"x"},"max_tokens":9,"stream":true,'
    body += b'"kv_transfer_params":null}'
    found = split(body, 1, ("max_tokens",))
    assert isinstance(found, Split)
    first = json.loads(spliced(body, in_order(found.prefill)))
    assert (first["max_tokens"], first["stream"], first["kv_transfer_params"]["do_remote_decode"]) == (1, False, True)
    second = json.loads(spliced(body, (found.with_transfer(TRANSFER),)))
    assert second["kv_transfer_params"] == json.loads(TRANSFER)


@pytest.mark.parametrize(
    ("named", "wanted"),
    [
        ('"localhost"', "10.0.0.5"),
        ('"127.0.0.1"', "10.0.0.5"),
        ("null", "10.0.0.5"),
        ('""', "10.0.0.5"),
        ('"10.1.1.1"', "10.1.1.1"),
    ],
)
def test_a_side_channel_at_localhost_is_the_engines_own_host(named: str, wanted: str) -> None:
    answer = read_answer(f'{{"kv_transfer_params":{{"remote_host":{named},"remote_port":5600}}}}'.encode(), "10.0.0.5")
    assert answer is not None
    assert json.loads(answer.transfer) == {"remote_host": wanted, "remote_port": 5600}


NIXL = {"remote_engine_id": "e", "remote_block_ids": [[1]], "remote_request_id": "r", "remote_port": 1}


@pytest.mark.parametrize("lacking", ["remote_block_ids", "remote_request_id", "remote_port", "remote_engine_id"])
def test_parameters_of_nixl_that_lack_something_are_not_passed_on(lacking: str) -> None:
    whole = read_answer(json.dumps({"kv_transfer_params": NIXL}).encode(), "h")
    assert whole is not None
    assert json.loads(whole.transfer) == NIXL | {"remote_host": "h"}
    nothing: tuple[object, ...] = (None, [])
    for value in nothing:
        body = json.dumps({"kv_transfer_params": NIXL | {lacking: value}}).encode()
        assert read_answer(body, "h") is None


def test_usage_and_absence_of_a_transfer_are_read() -> None:
    usage = b'"usage":{"prompt_tokens":9,"prompt_tokens_details":{"cached_tokens":4}}'
    answer = read_answer(b'{"choices":[],"kv_transfer_params":null,' + usage + b"}", "h")
    assert answer is not None
    assert (answer.transfer, answer.prompt_tokens, answer.cached_tokens) == (b"", 9, 4)
    bare = read_answer(b"{}", "h")
    assert bare is not None
    assert (bare.transfer, bare.cached_tokens) == (b"", None)


@given(st.binary(max_size=40) | st.text(max_size=40).map(lambda text: f'{{"kv_transfer_params":{text}}}'.encode()))
def test_no_answer_raises_and_what_is_written_is_an_object(data: bytes) -> None:
    answer = read_answer(data, "h")
    if answer is not None and answer.transfer:
        assert isinstance(json.loads(answer.transfer), dict)


def test_an_answer_that_names_too_many_blocks_is_none() -> None:
    blocks = ",".join(["123456"] * 200_000)
    assert read_answer(f'{{"kv_transfer_params":{{"remote_host":"h","b":[{blocks}]}}}}'.encode(), "h") is None
