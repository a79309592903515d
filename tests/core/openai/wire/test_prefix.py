"""Prompts that begin alike have the same first blocks, whatever a client writes; and the work has a bound."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.core.openai.wire import prefix
from aibrix_extproc.core.openai.wire.prefix import MAX_MESSAGES, PrefixChain
from aibrix_extproc.core.openai.wire.request import RequestFacts, read_json

SEED = 0x9E3779B97F4A7C15
WORDS = "the quick brown fox jumps over the lazy dog and so on "


def body(**members: Any) -> bytes:
    return json.dumps({"model": "m", **members}).encode()


def chain(sent: bytes, seed: int = SEED) -> PrefixChain:
    facts = read_json(sent, prefix_seed=seed)
    assert isinstance(facts, RequestFacts)
    assert facts.prefix is not None
    return facts.prefix


def message(text: str, role: str = "user") -> dict[str, str]:
    return {"role": role, "content": text}


def shared(one: PrefixChain, other: PrefixChain) -> int:
    """Bytes of the prompt that two chains have in common."""
    alike = [end for a, b, end in zip(one.hashes, other.hashes, one.ends, strict=False) if a == b]
    return alike[-1] if alike else 0


turns = st.lists(st.integers(0, 9000).map(lambda size: (WORDS * 200)[:size]), min_size=1, max_size=12)


@given(turns, turns)
def test_conversation_that_goes_on_has_the_blocks_of_its_earlier_turns(said: list[str], more: list[str]) -> None:
    before = chain(body(messages=[message(one) for one in said]))
    after = chain(body(messages=[message(one) for one in said + more]))
    # All of it but a message's end that makes a block too short.
    assert shared(before, after) >= before.size - prefix._SHORTEST


@given(turns, turns)
def test_prompts_that_differ_share_no_block_behind_the_difference(said: list[str], others: list[str]) -> None:
    one, other = (chain(body(messages=[message(text) for text in those])) for those in (said, others))
    alike = 0
    for first, second in zip(said, others, strict=False):
        if first != second:
            break
        alike += len(json.dumps(message(first)))
    if said != others:
        assert shared(one, other) <= alike + 9000


@pytest.mark.parametrize(
    "other",
    [
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"cache_salt": "s"},
        {"response_format": {"type": "json_object"}},
        {"chat_template_kwargs": {"thinking": True}},
        {"system": "Be brief."},
        {"model": "an-adapter"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_what_makes_another_prompt_of_the_same_messages_changes_every_block(other: dict[str, Any]) -> None:
    messages = [message(WORDS * 100)]
    plain, changed = chain(body(messages=messages)), chain(body(**{"messages": messages, **other}))
    assert set(plain.hashes).isdisjoint(changed.hashes)


def test_what_says_nothing_of_the_prompt_changes_no_block() -> None:
    messages = [message(WORDS * 100)]
    plain = chain(body(messages=messages))
    assert chain(body(temperature=0.5, messages=messages, max_tokens=7, user="u")) == plain


def test_hashes_of_another_seed_are_others() -> None:
    sent = body(messages=[message(WORDS * 100)])
    assert set(chain(sent).hashes).isdisjoint(chain(sent, SEED + 2).hashes)


@given(st.integers(1, 2**64 - 1))
def test_prompts_that_are_made_to_collide_need_the_seed(unknown: int) -> None:
    # Of 17 to 32 bytes XXH3 multiplies the first eight, less the seed and a constant, with the next: 0 hides those.
    begin, constant = (int.from_bytes(text, "little") for text in (b'"adapter', bytes.fromhex("b8fe6c3923a44bbe")))
    known = (begin - constant) % 2**64
    one, two = (
        body(model=f"adapter-{name}-of-a-base-model", messages=[message(WORDS * 100)]) for name in ("one123", "two456")
    )
    assert chain(one, known) == chain(two, known)
    assert unknown == known or set(chain(one, unknown).hashes).isdisjoint(chain(two, unknown).hashes)


@pytest.mark.parametrize(
    "members",
    [
        {"prompt": WORDS * 100}, {"prompt": [1, 2, 3] * 500}, {"input": WORDS * 100},
        {"input": [message(WORDS * 100)]}, {"instructions": WORDS * 100, "input": "x"},
    ],
    ids=["prompt", "token ids", "text", "items", "instructions"],
)  # fmt: skip
def test_every_form_of_a_prompt_is_read(members: dict[str, Any]) -> None:
    found = chain(body(**members))
    assert found.size >= 4000
    assert len(found.hashes) >= 4


def test_bytes_of_an_image_count_for_less_and_tell_images_apart() -> None:
    def with_image(letter: str) -> PrefixChain:
        url = "data:image/png;base64," + letter * 400_000
        return chain(body(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]))

    assert with_image("A").size < 20_000
    assert shared(with_image("A"), with_image("B")) == 0


def test_long_body_is_read_like_a_short_one() -> None:
    long = json.dumps({"user": "u" * prefix.READ_AT_ONCE})[1:-1].encode()
    prompts: tuple[dict[str, Any], ...] = (
        {"messages": [message(WORDS * 20)] * 20}, {"input": WORDS * 100}, {"messages": [], "input": None},
    )  # fmt: skip
    for members in prompts:
        short = body(**members)
        assert chain(b"{" + long + b"," + short[1:]) == chain(short)


@pytest.mark.parametrize("size", [0, prefix.READ_AT_ONCE], ids=["short", "long"])
@pytest.mark.parametrize("value", ["3", "null", "{}", "[]", '"text"', "true", "1e400"])
def test_members_of_another_type_are_the_engines_to_refuse(value: str, size: int) -> None:
    sent = b'{"model": "m", "messages": ' + value.encode() + b" " * size + b"}"
    plain, read = read_json(sent), read_json(sent, prefix_seed=SEED)
    assert isinstance(plain, RequestFacts)
    assert isinstance(read, RequestFacts)
    assert (read.model, read.stream, read.inside) == (plain.model, plain.stream, plain.inside)


HOSTILE = {
    "many tiny messages": b'{"model":"m","messages":[' + b"{}," * 300_000 + b"{}]}",
    "many numbers": b'{"model":"m","messages":[' + b"0," * 500_000 + b"0]}",
    "many brackets": b'{"model":"m","messages":["' + b"},{" * 300_000 + b'"]}',
    "one long text": b'{"model":"m","messages":["' + b"x " * 500_000 + b'"]}',
    "many members": b'{"model":"m",' + b'"messages":[{}],' * 60_000 + b'"input":[]}',
}


@pytest.mark.parametrize("sent", HOSTILE.values(), ids=HOSTILE)
def test_blocks_of_any_body_are_few(sent: bytes) -> None:
    found = chain(sent)
    assert len(found.hashes) <= MAX_MESSAGES + 16 + 60 + len(sent) // 16_384 + 2
    assert list(found.ends) == sorted(found.ends)


def test_messages_behind_the_last_whose_end_is_found_are_hashed_all_the_same() -> None:
    said = [message(f"{number} {WORDS * 8}") for number in range(2 * MAX_MESSAGES)]
    before, after = chain(body(messages=said)), chain(body(messages=[*said, message("more")]))
    assert shared(before, after) >= before.size - 4096
    assert shared(before, chain(body(messages=[*said[:-60], message("x"), *said[-59:]]))) < before.size - 10_000
