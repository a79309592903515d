"""Bodies: what is read from good ones, how bad ones are refused, and that nothing at all raises."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aibrix_extproc.core.openai.errors import Problem, error_object
from aibrix_extproc.core.openai.request import RequestFacts, read_fields, read_json, with_usage

DEEP = 10_000
FIVE_MB = 5_000_000


def refusal(body: bytes) -> Problem:
    found = read_json(body)
    assert isinstance(found, Problem)
    return found


def facts(body: bytes) -> RequestFacts:
    found = read_json(body)
    assert isinstance(found, RequestFacts)
    return found


@pytest.mark.parametrize(
    ("body", "model"),
    [
        (b'{"model":"m"}', "m"),
        (b' \r\n\t{ "x" : [1, {"model": "inner"}] , "model" : "m" } \n', "m"),
        (b'{"model":"a","model":"b"}', "b"),
        (b'{"model":7,"model":"b"}', "b"),
        (b'{"m\\u006fdel":"m"}', "m"),
        (b'{"model":"a","m\\u006fdel":"b"}', "b"),
        (b'{"model":"org/name:tag"}', "org/name:tag"),
        (b'{"model":"\\u006d\\n\\/"}', "m\n/"),
        (b'{"model":" m "}', " m "),
        ('{"model":"\u6a21\u578b"}'.encode(), "\u6a21\u578b"),
        (b'{"model":"\\ud83d\\ude00"}', "\U0001f600"),
        (b'{"model":"m","seed":' + b"9" * 5000 + b"}", "m"),
        (b'{"model":"m","temperature":1e999}', "m"),
        (b'{"model":"m","x":' + b"[" * 300 + b"]" * 300 + b"}", "m"),
        (b'{"Model":"x","MODEL":"y","model":"m"}', "m"),
        (b'{"prompt":"\\"model\\":\\"x\\"","model":"m"}', "m"),
        (b'{"prompt":"' + b"x" * FIVE_MB + b'","model":"m"}', "m"),
        (b'{"prompt":"' + "\u00e9".encode() * FIVE_MB + b'","model":"m"}', "m"),
    ],
    ids=[
        "plain", "nested", "duplicate", "duplicate of two types", "escaped name", "escaped duplicate", "slash",
        "escaped value", "spaces kept", "wide", "surrogate pair", "huge integer", "infinite", "deep but readable",
        "case", "quoted in a string", "last after 5 MB", "last after 10 MB of two-byte characters",
    ],
)  # fmt: skip
def test_model_is_read_wherever_it_stands(body: bytes, model: str) -> None:
    assert facts(body).model == model


@pytest.mark.parametrize(
    "body",
    [
        b"", b" ", b"{", b"null", b"[]", b'["model"]', b'"model"', b"7", b"true", b'{"model":"m"', b'{"model":"m",}',
        b'{"model":"m"} x', b'{"model":"m"}{}', b"{'model':'m'}", b'{"model":m}', b"\x00", b'\xef\xbb\xbf{"model":"m"}',
        b'{"model":"m","x":"\xff"}', b'{"model":"m","\xc3":1}', b'{"model":"\xed\xa0\x80"}',
        '{"model":"m"}'.encode("utf-16"), b'{"model":"\\ud800"}', b'{"model":"m","x":"\\ud800"}',
        b'{"model":"m","x":NaN}', b'{"model":"m","x":01}', b'{"model":"m","x":"\n"}',
        b'{"model":"m","x":' + b"[" * DEEP + b"]" * DEEP + b"}",
        b'{"model":' + b"[" * DEEP + b"]" * DEEP + b"}",
        b'{"model":"m","stream":true,"stream_options":' + b'{"x":' * DEEP + b"1" + b"}" * DEEP + b"}",
        b"[" * DEEP,
    ],
    ids=[
        "empty", "blank", "cut", "null", "array", "array of words", "string", "number", "boolean", "unclosed", "comma",
        "words after", "two objects", "quotes", "no quotes", "NUL", "BOM", "invalid UTF-8", "invalid UTF-8 in a name",
        "encoded surrogate", "UTF-16", "lone surrogate as model", "lone surrogate elsewhere", "NaN", "leading zero",
        "control character", "10,000 deep", "10,000 deep model", "10,000 deep options", "10,000 unclosed",
    ],
)  # fmt: skip
def test_body_that_is_no_readable_object_is_malformed(body: bytes) -> None:
    assert refusal(body).key == "malformed_json"


@pytest.mark.parametrize("body", [b"{}", b'{"Model":"m"}', b'{"x":{"model":"m"}}'])
def test_absent_model_is_missing(body: bytes) -> None:
    problem = refusal(body)
    assert problem.key == "missing_model"
    assert error_object(problem)["message"] == "you must provide a model parameter"


@pytest.mark.parametrize("body", [b'{"model":""}', b'{"model":" \\t "}', b'{"model":"m","model":""}'])
def test_blank_model_is_an_invalid_value(body: bytes) -> None:
    problem = refusal(body)
    assert (problem.key, error_object(problem)["param"]) == ("empty_model", "model")


@pytest.mark.parametrize(
    ("value", "got"),
    [
        ("null", "null"), ("7", "an integer"), ("-7", "an integer"), ("7.5", "a number"), ("1e3", "a number"),
        ("1E3", "a number"), ("true", "a boolean"), ("false", "a boolean"), ("[]", "an array"), ("{}", "an object"),
        ('["m"]', "an array"), ("9" * 5000, "an integer"),
    ],
)  # fmt: skip
def test_model_of_another_type_is_told_which(value: str, got: str) -> None:
    problem = refusal(f'{{"model": {value}}}'.encode())
    assert error_object(problem) == {
        "message": f"Invalid type for 'model': expected a string, but got {got} instead.",
        "type": "invalid_request_error",
        "param": "model",
        "code": "invalid_type",
    }


@pytest.mark.parametrize(
    ("fields", "stream", "includes_usage"),
    [
        ('"stream":true', True, False),
        ('"stream":true,"stream_options":null', True, False),
        ('"stream":true,"stream_options":{"include_usage":true}', True, True),
        ('"stream":true,"stream_options":{"include_usage":true,"n":' + "9" * 500 + "}", True, True),
        ('"stream":true,"stream_options":{"include_usage":1}', True, False),
        ('"stream":true,"stream_options":{"include_usage":true,"include_usage":false}', True, False),
        ('"stream":true,"stream_options":["include_usage"]', True, False),
        ('"stream":false,"stream_options":{"include_usage":true}', False, False),
        ('"stream":1', False, False),
        ('"stream":"true"', False, False),
        ('"stream":null', False, False),
        ('"stream":true,"stream":false', False, False),
    ],
)
def test_only_true_streams_and_only_true_includes_usage(fields: str, stream: bool, includes_usage: bool) -> None:
    found = facts(f'{{"model":"m",{fields}}}'.encode())
    assert (found.stream, found.includes_usage) == (stream, includes_usage)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"model": "m"}, RequestFacts("m", stream=False, includes_usage=False)),
        ({"model": "m", "stream": "True"}, RequestFacts("m", stream=True, includes_usage=False)),
        ({"model": "m", "stream": "1"}, RequestFacts("m", stream=True, includes_usage=False)),
        ({"model": "m", "stream": "no"}, RequestFacts("m", stream=False, includes_usage=False)),
        ({}, Problem("missing_model")),
        ({"model": " "}, Problem("empty_model")),
    ],
)
def test_form_fields_are_text(fields: dict[str, str], expected: RequestFacts | Problem) -> None:
    assert read_fields(fields) == expected


scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
)
names = st.sampled_from(("model", "stream", "stream_options", "include_usage", "messages")) | st.text(max_size=8)
documents = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4), max_leaves=12
)
bodies = st.dictionaries(names, documents, max_size=5)


def by_the_book(text: str) -> Any:
    """What the engines' own parser makes of it, less what the gateway refuses on purpose (numbers JSON lacks)."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    return json.loads(text, parse_constant=refuse)


def check_against_the_book(body: bytes) -> None:
    found = read_json(body)
    try:
        document = by_the_book(body.decode())
        json.dumps(document, ensure_ascii=False).encode()  # lone surrogates are refused
    except (ValueError, RecursionError):
        assert found == Problem("malformed_json")
        return
    if not isinstance(document, dict):
        assert found == Problem("malformed_json")
    elif isinstance(found, RequestFacts):
        assert found.model == document["model"]
        assert found.stream is (document.get("stream") is True)
    else:
        model = document.get("model")
        expected = "missing_model" if "model" not in document else "invalid_type"
        assert found.key == ("empty_model" if isinstance(model, str) else expected)
        assert not isinstance(model, str) or not model.strip()


@given(documents | bodies, st.booleans(), st.sampled_from((None, 1)))
def test_any_json_document_is_read_as_the_engines_read_it(document: Any, ascii_only: bool, indent: int | None) -> None:
    check_against_the_book(
        json.dumps(document, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "surrogatepass")
    )


@given(bodies, st.data())
def test_damaged_json_is_refused_exactly_when_the_engines_would(document: dict[str, Any], data: st.DataObject) -> None:
    body = json.dumps({**document, "model": "m"}).encode()
    at = data.draw(st.integers(0, len(body)))
    check_against_the_book(
        body[:at] + data.draw(st.sampled_from((b"", b'"', b"}", b"\\", b",", b"0"))) + body[at + 1 :]
    )


@given(st.binary(max_size=60))
@example(b'{"model":' + b"\xff")
def test_any_bytes_are_answered(body: bytes) -> None:
    assert isinstance(read_json(body), RequestFacts | Problem)


@given(bodies, bodies | st.none() | st.integers() | st.just("absent"))
@example({}, {"include_usage": False, "n": 10**400})
def test_asking_for_usage_changes_nothing_else(document: dict[str, Any], options: Any) -> None:
    sent = {**document, "model": "m", "stream": True, "stream_options": options}
    if options == "absent":
        del sent["stream_options"]
    body = json.dumps(sent).encode()
    metered = json.loads(with_usage(body, facts(body)))
    if isinstance(options, int):
        assert metered == sent, "the engine is to refuse what is no object"
        return
    given_options = options if isinstance(options, dict) else {}
    assert metered == {**sent, "stream_options": {**given_options, "include_usage": True}}


def test_asking_for_usage_keeps_the_bytes_of_a_prompt() -> None:
    body = b' {"model": "m", "stream":true, "messages":[{"content":"\\u00e9  x"}], "n": 1.0}'
    metered = with_usage(body, facts(body))
    assert metered.endswith(body[2:])
    assert metered.startswith(b' {"stream_options":{"include_usage":true},')
