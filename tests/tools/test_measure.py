"""`tools.measure`: values of schemas, verdicts from answers, and the file of verdicts."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from aibrix_extproc.interfaces.fields import Step
from tests.conformance.fake import Reply, deployment
from tools.measure.answers import Seen
from tools.measure.asking import Asker, EngineLost
from tools.measure.judge import Answer, differences, judged, read
from tools.measure.recorded import Recorded
from tools.measure.values import Values

VALUES = Values({}, {"url": "data:"})


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "boolean", "default": True}, False),
        ({"anyOf": [{"type": "null"}, {"type": "integer"}]}, 2),
        ({"type": "integer", "minimum": 16}, 16),
        ({"enum": ["a", "b"], "default": "a"}, "b"),
        ({"const": "c"}, "c"),
        ({"type": "array", "items": {"type": "number"}}, [0.5]),
        ({"type": "object", "properties": {"a": {"type": "string"}, "b": {}}, "required": ["a"]}, {"a": "text"}),
        ({"type": "object", "properties": {"url": {"type": "string"}}, "required": ["url"]}, {"url": "data:"}),
    ],
)
def test_a_valid_value_is_small_and_no_default(schema: dict[str, Any], expected: object) -> None:
    assert VALUES.valid(schema) == expected


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "integer"}, "hot"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, 7),
        ({"anyOf": [{"type": "string"}, {"type": "number"}]}, {"no": 7}),
        ({}, None),
    ],
)
def test_a_wrong_value_has_a_type_that_is_not_taken(schema: dict[str, Any], expected: object) -> None:
    assert VALUES.wrong(schema) == expected


def test_bounds_are_the_limits_and_one_beyond() -> None:
    assert VALUES.bounds({"type": "integer", "minimum": 1, "maximum": 9}) == [1, 0, 9, 10]


def test_a_deep_field_comes_with_what_is_around_it() -> None:
    inner = {"type": "object", "properties": {"a": {}, "b": {"type": "string"}}, "required": ["b"]}
    schema = {"type": "object", "properties": {"list": {"type": "array", "items": inner}}}
    steps = (Step("list"), Step("[]"), Step("a"))
    assert VALUES.holding(schema, steps, 1) == {"list": [{"b": "text", "a": 1}]}
    assert VALUES.holding(schema, steps, without=True) == {"list": [{"b": "text"}]}


GOOD, OTHER = Answer(200, {"id": "x", "a": [{"b": 1}]}), Answer(200, {"id": "y", "a": [{"b": 2}, {"b": 1}]})
BAD = Answer(400, {"error": {"code": "invalid_type", "param": "a", "message": "..."}})


@pytest.mark.parametrize(
    ("control", "valid", "wrong", "expected"),
    [
        (GOOD, OTHER, BAD, {"verdict": "honoured", "seen": ["a[].b"]}),
        (GOOD, GOOD, BAD, {"verdict": "checked"}),
        (GOOD, GOOD, GOOD, {"verdict": "ignored"}),
        (GOOD, BAD, BAD, {"verdict": "refused", "error": "400 invalid_type a"}),
        (BAD, BAD, None, {"verdict": "refused", "error": "400 invalid_type a", "beside": "400 invalid_type a"}),
        (BAD, GOOD, None, {"verdict": "honoured", "seen": ["without it 400 invalid_type a"]}),
    ],
)
def test_a_verdict_follows_from_three_answers(control: Answer, valid: Answer, wrong: Any, expected: object) -> None:
    assert judged(control, valid, wrong, set(), required=False) == expected


def test_noise_is_no_effect() -> None:
    assert differences(GOOD, OTHER) == {"a[].b"}
    assert judged(GOOD, OTHER, None, {"a[].b"}, required=False) == {"verdict": "ignored"}


def test_a_stream_is_a_list_of_events() -> None:
    assert read(200, "text/event-stream", b'data: {"a": 1}\n\ndata: [DONE]\n\n').body == {
        "events": [{"a": 1}, "[DONE]"]
    }


def test_fields_of_answers_are_seen_null_or_absent() -> None:
    part = {"type": "object", "properties": {"type": {"const": "t"}, "x": {}}}
    schema = {"type": "object", "properties": {"a": {"type": "array", "items": part}, "b": {}, "c": {}}}
    seen = Seen(schema, {})
    seen.add({"a": [{"type": "t", "x": 1}], "b": None, "d": 1})
    assert seen.verdicts() == {"a": "seen", "b": "null", "c": "absent", "a[].type": "seen", "a[].x": "seen"}


def test_what_was_recorded_before_stays_and_only_the_rest_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "vllm-9.json"
    part = {"type": "object", "properties": {"a": {}, "b": {}}}
    first, second = Seen(part, {}), Seen(part, {})
    first.add({"a": 1})
    second.add({"a": None, "b": None})
    for field, seen in (("x", first), ("y", second)):
        file = Recorded(path)
        file.field("chat_completion", field, {"verdict": "ignored"})
        file.seen("chat_completion", {"answer": seen})
    file.operation_refused("response", "400 unsupported_endpoint")
    assert Recorded(path).fields("chat_completion") == {"x", "y"}
    assert json.loads(path.read_text("utf-8")) == {
        "chat_completion": {
            "request": {"x": {"verdict": "ignored"}, "y": {"verdict": "ignored"}},
            "answer": {"a": "seen", "b": "null"},
        },
        "response": {"refused": {"error": "400 unsupported_endpoint"}},
    }


def test_an_engine_that_answers_nobody_any_more_ends_the_measurement() -> None:
    statuses = iter([200, 503, 200, 503, 503])

    def reply(_method: str, _path: str) -> Reply:
        return next(statuses), {"content-type": "application/json"}, b"{}"

    with deployment(reply) as url, closing(Asker(url, "any")) as asker:
        assert asker.ask("tokenize", {"prompt": "a"}).good
        assert asker.ask("tokenize", {"prompt": "b"}).status == 503  # and the first one is answered again
        with pytest.raises(EngineLost, match="tokenize"):
            asker.ask("tokenize", {"prompt": "c"})
