"""Tokenizer, scripts, JSON samples, prefix cache, scheduler, forms: tables and properties without a loop."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aibrix_extproc.simulator.errors import EngineError
from aibrix_extproc.simulator.json_sample import sample_json
from aibrix_extproc.simulator.multipart import MultipartError, parse_form
from aibrix_extproc.simulator.prefix_cache import PrefixCache
from aibrix_extproc.simulator.prompts import render_chat, split_prompts
from aibrix_extproc.simulator.scheduler import Claim, Scheduler
from aibrix_extproc.simulator.script import Bounds, text_script, word_tokens, write_script
from aibrix_extproc.simulator.tokenizer import count_tokens, decode, encode, split_text
from aibrix_extproc.simulator.vectors import class_probabilities, relevance

BLOCK = 64
# Other tests share the cores: an example may take long for reasons of its own.
PATIENT = settings(max_examples=50)


@PATIENT
@given(st.text())
def test_tokens_of_a_text_decode_to_it(text: str) -> None:
    data = text.encode()
    tokens = encode(data)
    assert decode(tokens) == text
    assert len(tokens) == count_tokens(data)


@PATIENT
@given(st.text())
def test_pieces_of_a_text_join_to_it(text: str) -> None:
    pieces = split_text(text)
    assert "".join(pieces) == text
    assert all(1 <= len(piece.encode()) <= 4 for piece in pieces)


def test_foreign_tokens_decode_to_placeholders() -> None:
    assert decode([0, 7, 2**40]) == "<0><7><1099511627776>"


@PATIENT
@given(st.integers(), st.binary(max_size=50), st.integers(0, 7), st.integers(0, 9000))
def test_words_are_as_many_as_wanted_and_count_as_tokens(seed: int, prompt: bytes, choice: int, count: int) -> None:
    words = word_tokens(seed, prompt, choice, count)
    assert len(words) == count
    assert words == word_tokens(seed, prompt, choice, count)
    assert count_tokens("".join(words).encode()) == count


@pytest.mark.parametrize(
    ("bounds", "text", "reason", "stop"),
    [
        (Bounds(100), "one two three four", "stop", None),
        (Bounds(3), "one two thre", "length", None),
        (Bounds(100, ("three",)), "one two ", "stop", "three"),
        (Bounds(100, ("three",), keep_stop=True), "one two three", "stop", "three"),
        (Bounds(100, ("four", "two")), "one ", "stop", "two"),
        (Bounds(100, ("o",), min_tokens=3), "one two three f", "stop", "o"),
        (Bounds(2, ("three",)), "one two ", "length", None),
        (Bounds(100, ("",)), "one two three four", "stop", None),
    ],
)
def test_script_ends_at_the_first_bound(bounds: Bounds, text: str, reason: str, stop: str | None) -> None:
    script = text_script("one two three four", bounds)
    assert (script.text, script.finish_reason, script.stop_reason) == (text, reason, stop)


def test_script_of_exactly_the_allowed_length_stops() -> None:
    assert write_script((" one", " two"), Bounds(2)).finish_reason == "stop"


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string"}, "sample"),
        ({"type": "string", "minLength": 9}, "sampleaaa"),
        ({"type": "string", "maxLength": 2}, "sa"),
        ({"type": "string", "format": "date"}, "2024-05-17"),
        ({"type": "integer", "minimum": 5}, 5),
        ({"type": "integer", "exclusiveMaximum": 1}, 0),
        ({"type": "integer", "multipleOf": 7}, 7),
        ({"type": "number", "maximum": 0.5}, 0.5),
        ({"type": ["null", "boolean"]}, True),
        ({"enum": ["x", "y"]}, "x"),
        ({"const": 4}, 4),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, 1),
        ({"type": "array", "items": {"type": "boolean"}, "minItems": 3}, [True, True, True]),
        ({"allOf": [{"type": "object"}, {"properties": {"a": {"type": "null"}}}]}, {"a": None}),
        ({"$ref": "#/$defs/A", "$defs": {"A": {"type": "object", "properties": {"b": {"const": 1}}}}}, {"b": 1}),
        ({}, "sample"),
        (None, None),
    ],
)
def test_sample_is_valid_for_its_schema(schema: Any, value: Any) -> None:
    assert json.loads(sample_json(schema)) == value


def test_sample_of_a_recursive_schema_ends() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]}
    assert json.loads(sample_json(node))["next"]


def test_prefix_cache_leaves_one_token_to_compute() -> None:
    cache = PrefixCache(16, 100)
    text = b"x" * BLOCK * 3
    chain = cache.chain("", text)
    assert cache.match(chain, len(text)) == 0
    cache.insert(chain)
    assert cache.match(chain, len(text)) == 32
    assert cache.match(cache.chain("", text + b"y"), len(text) + 1) == 48


def test_prefix_cache_ends_at_the_first_difference_and_separates_roots() -> None:
    cache = PrefixCache(16, 100)
    first, second = b"a" * BLOCK, b"b" * BLOCK
    cache.insert(cache.chain("", first + second))
    assert cache.match(cache.chain("", first + b"c" * BLOCK), 2 * BLOCK + 1) == 16
    assert cache.match(cache.chain("", second + first), 2 * BLOCK + 1) == 0
    assert cache.match(cache.chain("lora", first + second), 2 * BLOCK + 1) == 0


def test_prefix_cache_forgets_the_least_recent_block() -> None:
    cache = PrefixCache(16, 2)
    texts = [bytes([letter]) * BLOCK for letter in b"abc"]
    chains = [cache.chain("", text) for text in texts]
    cache.insert(chains[0])
    cache.insert(chains[1])
    assert cache.match(chains[0], BLOCK + 1) == 16
    cache.insert(chains[2])
    assert [cache.match(chain, BLOCK + 1) for chain in chains] == [16, 0, 16]


@PATIENT
@given(st.lists(st.binary(min_size=0, max_size=400), max_size=12), st.integers(1, 8))
def test_prefix_cache_stays_within_its_capacity(texts: list[bytes], capacity: int) -> None:
    cache = PrefixCache(2, capacity)
    for text in texts:
        chain = cache.chain("", text)
        assert cache.match(chain, len(text)) <= max(0, count_tokens(text) - 1)
        cache.insert(chain)
        assert len(cache) <= capacity


def test_scheduler_admits_in_order_up_to_the_limit() -> None:
    scheduler = Scheduler(2, 100, 4)
    for key in "abc":
        scheduler.offer(key, Claim(1, 10))
    assert scheduler.admit() == ["a", "b"]
    scheduler.remove("a")
    assert scheduler.admit() == ["c"]
    assert (scheduler.running_sequences, scheduler.cache_usage) == (2, 0.2)


def test_scheduler_lets_lower_priorities_go_first() -> None:
    scheduler = Scheduler(1, 100, 4)
    for key, priority in (("first", 0), ("batch", 1), ("default", 0), ("interactive", -1)):
        scheduler.offer(key, Claim(1, 1, priority=priority))
        scheduler.admit()
    order = []
    for key in ("first", "interactive", "default"):
        scheduler.remove(key)
        order += scheduler.admit()
    assert order == ["interactive", "default", "batch"]


def test_scheduler_waits_for_blocks_but_runs_the_oversized_alone() -> None:
    scheduler = Scheduler(10, 100, 4)
    scheduler.offer("huge", Claim(1, 500))
    scheduler.offer("small", Claim(1, 1))
    assert scheduler.admit() == ["huge"]
    assert scheduler.cache_usage == 1.0
    scheduler.remove("huge")
    assert scheduler.admit() == ["small"]


def test_scheduler_defers_only_requests_without_an_adapter_slot() -> None:
    scheduler = Scheduler(10, 100, 1)
    for key, adapter in (("one", "x"), ("two", "y"), ("three", ""), ("four", "x")):
        scheduler.offer(key, Claim(1, 1, adapter))
    assert scheduler.admit() == ["one", "three", "four"]
    assert (scheduler.deferred(), scheduler.waiting_adapters()) == (1, {"y"})


def test_frozen_scheduler_admits_nobody() -> None:
    scheduler = Scheduler(1, 1, 1)
    scheduler.offer("a", Claim(1, 1))
    scheduler.frozen = True
    assert scheduler.admit() == []
    scheduler.frozen = False
    assert scheduler.admit() == ["a"]


@PATIENT
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 9), st.sampled_from(["", "x", "y"]))), st.data())
def test_scheduler_never_exceeds_its_limits_and_ends_empty(claims: list[tuple[int, int, str]], data: Any) -> None:
    scheduler = Scheduler(3, 9, 1)
    for key, claim in enumerate(claims):
        scheduler.offer(key, Claim(*claim))
    while scheduler.waiting or scheduler.running:
        scheduler.admit()
        assert scheduler.running, "somebody must always be able to run"
        assert scheduler.running_sequences <= 3
        assert scheduler.held_blocks <= 9
        assert len(scheduler.running_adapters()) <= 1
        scheduler.remove(data.draw(st.sampled_from(sorted(scheduler.running, key=str))))
    assert (scheduler.running_sequences, scheduler.held_blocks) == (0, 0)


def test_next_turn_begins_with_the_bytes_of_this_one() -> None:
    messages = [{"role": "user", "content": "hello"}]
    prompt = render_chat(messages, None, False, "m")
    turn = [*messages, {"role": "assistant", "content": "hi"}, {"role": "user", "content": "more"}]
    assert render_chat(turn, None, False, "m").startswith(prompt + b"hi")


@pytest.mark.parametrize(
    ("prompt", "split"),
    [
        (None, []),
        ("a", ["a"]),
        (["a", "b"], ["a", "b"]),
        ([1, 2], [[1, 2]]),
        ([[1], [2, 3]], [[1], [2, 3]]),
        ([], []),
    ],
)
def test_prompts_of_every_form_are_split(prompt: Any, split: Any) -> None:
    assert split_prompts(prompt) == split


FORM = (
    b'--b ound\r\nContent-Disposition: form-data; name="file"; filename="a;b.wav"\r\nContent-Type: audio/wav\r\n\r\n'
    b"\r\n--b\r\n\r\n--b ound\r\ncontent-disposition: form-data; name=model\r\n\r\nm\r\n--b ound--\r\n"
)


def test_form_keeps_bytes_that_look_like_boundaries() -> None:
    parts = parse_form('multipart/form-data; boundary="b ound"', FORM)
    assert [(part.name, part.filename, part.content) for part in parts] == [
        ("file", "a;b.wav", b"\r\n--b\r\n"),
        ("model", None, b"m"),
    ]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", FORM),
        ("multipart/form-data; boundary=x", FORM),
        ('multipart/form-data; boundary="b ound"', FORM[:-20]),
        ("multipart/form-data; boundary=x", b"--x\r\nno header\r\n--x--"),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data\r\n\r\n\r\n--x--"),
    ],
)
def test_broken_form_is_refused(content_type: str, body: bytes) -> None:
    with pytest.raises(MultipartError):
        parse_form(content_type, body)


@PATIENT
@given(st.text(), st.text())
def test_scores_and_probabilities_stay_between_zero_and_one(query: str, document: str) -> None:
    assert 0 <= relevance(query, document) <= 1
    assert sum(class_probabilities(document.encode())) == pytest.approx(1)


@pytest.mark.parametrize("odd", [{}, [], 7, None, True, "nope"], ids=str)
def test_part_of_any_type_and_schema_with_any_keyword_break_nothing(odd: object) -> None:
    render_chat([{"role": "user", "content": [{"type": odd, "text": "x"}]}], None, False, "m")
    for keyword in ("type", "enum", "properties", "items", "required", "allOf", "anyOf", "$ref", "minimum", "format"):
        with contextlib.suppress(EngineError):
            json.loads(sample_json({"type": "object", keyword: odd}))
