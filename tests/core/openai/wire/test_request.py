"""Bodies: what is read from good ones, how bad ones are refused, and that nothing at all raises."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aibrix_extproc.core.openai.contract.errors import Problem, error_object
from aibrix_extproc.core.openai.wire.request import MAX_NAME_BYTES, RequestFacts, read_fields, read_json
from aibrix_extproc.core.openai.wire.splice import spliced

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
        ('"stream":true,"stream_options":{"include_usage":true,"include_usage":false}', True, False),
        ('"stream":true,"stream_options":{"include_us\\u0061ge":true}', True, True),
        ('"stream":true,"stream_options":{"include_usage":null,"continuous_usage_stats":true}', True, False),
        ('"stream":false,"stream_options":{"include_usage":true}', False, False),
        ('"stream":null', False, False),
        ('"str\\u0065am":true', True, False),
        ('"stream":true,"stream":false', False, False),
        ('"stream":"yes","stream":true', True, False),
    ],
)
def test_only_true_streams_and_only_true_includes_usage(fields: str, stream: bool, includes_usage: bool) -> None:
    found = facts(f'{{"model":"m",{fields}}}'.encode())
    assert (found.stream, found.includes_usage) == (stream, includes_usage)


LAX = ("1", "1.0", "1e0", "0", "2", '"1"', '"true"', '"True"', '"yes"', '"on"', '"t"', '"false"', '""', "[]", "{}")


@pytest.mark.parametrize("value", LAX)
@pytest.mark.parametrize(
    ("member", "param"),
    [
        ('"stream":%s', "stream"),
        ('"stream":true,"str\\u0065am":%s', "stream"),
        ('"stream_options":{"include_usage":%s}', "stream_options.include_usage"),
        ('"stream":true,"stream_options":{"a":1,"include_usage":%s}', "stream_options.include_usage"),
        ('"stream_options":{"continuous_usage_stats":%s}', "stream_options.continuous_usage_stats"),
        ('"stream_options":{"include_obfuscation":%s}', "stream_options.include_obfuscation"),
    ],
)
def test_what_engines_would_coerce_to_a_boolean_is_refused(member: str, param: str, value: str) -> None:
    problem = refusal(f'{{"model":"m",{member % value}}}'.encode())
    assert (problem.key, error_object(problem)["param"]) == ("invalid_type", param)
    assert "expected a boolean" in str(error_object(problem)["message"])


@pytest.mark.parametrize("value", ["true", "1", '""', "[]", '["include_usage"]'])
def test_stream_options_that_are_no_object_are_refused(value: str) -> None:
    problem = refusal(f'{{"model":"m","stream":true,"stream_options":{value}}}'.encode())
    assert (problem.key, problem.param) == ("invalid_type", "stream_options")


@pytest.mark.parametrize("value", ["5", "[]", "{}", "true"])
def test_response_that_is_named_by_no_string_is_refused(value: str) -> None:
    assert refusal(f'{{"model":"m","previous_response_id":{value}}}'.encode()).key == "invalid_type"


@pytest.mark.parametrize("field", ["model", "previous_response_id"])
@pytest.mark.parametrize("unit", ["x", "\\n", "\\u00e9", "\\ud83d\\ude00"])
def test_name_of_any_length_costs_no_copy_and_is_not_repeated(field: str, unit: str) -> None:
    value = unit * (FIVE_MB // len(unit))
    problem = refusal(f'{{"model":"m","{field}":"{value}"}}'.encode())
    assert (problem.code, problem.param) == ("string_above_max_length", field)
    assert len(str(error_object(problem)["message"])) < 200
    assert isinstance(read_json(f'{{"model":"m","{field}":"{"x" * (MAX_NAME_BYTES - 2)}"}}'.encode()), RequestFacts)


@pytest.mark.parametrize(
    "value",
    ["9" * FIVE_MB, "-" + "9" * FIVE_MB, "1." + "0" * FIVE_MB, "[" + "1," * 99_999 + "1]"],
    ids=["digits", "negative", "fraction", "array"],
)
@pytest.mark.parametrize("field", ["stream", "previous_response_id", "model", "stream_options"])
def test_number_of_any_length_is_named_without_being_read(field: str, value: str) -> None:
    problem = refusal(f'{{"model":"m","{field}":{value}}}'.encode())
    assert problem.key == "invalid_type"
    assert len(str(error_object(problem)["message"])) < 200


@pytest.mark.parametrize(
    "word", ["yes", "on", "t", "y", "no", "off", "", " ", " true", "truE ", "2", "null", "x" * 60_000]
)
@pytest.mark.parametrize("field", ["stream"])
def test_word_that_engines_might_take_for_a_boolean_of_a_form_is_refused(field: str, word: str) -> None:
    problem = read_fields({"model": "m", field: word})
    assert isinstance(problem, Problem)
    assert (problem.key, problem.param) == ("invalid_type", field)
    assert "'true', '1', 'false', '0'" in str(error_object(problem)["message"])


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"model": "m"}, RequestFacts("m", stream=False, includes_usage=False)),
        ({"model": "m", "stream": "True"}, RequestFacts("m", stream=True, includes_usage=False)),
        ({"model": "m", "stream": "1"}, RequestFacts("m", stream=True, includes_usage=False)),
        ({"model": "m", "stream": "FALSE"}, RequestFacts("m", stream=False, includes_usage=False)),
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
        assert document.get("stream") in (True, False, None)
        options = document.get("stream_options") or {}
        assert found.includes_usage is (found.stream and options.get("include_usage") is True)
    elif found.key == "empty_model":
        assert not document["model"].strip()
    elif found.key == "missing_model":
        assert "model" not in document
    else:
        assert found.key == "invalid_type"
        assert not is_plain(document)


def is_plain(document: dict[str, Any]) -> bool:
    """Whether no engine would have to coerce one of the members that are read."""
    options = document.get("stream_options")
    flags = [document.get("stream")]
    if isinstance(options, dict):
        flags += [options.get(name) for name in ("include_usage", "continuous_usage_stats", "include_obfuscation")]
    elif options is not None:
        return False
    return isinstance(document.get("model"), str) and all(flag is None or isinstance(flag, bool) for flag in flags)


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


def asking(body: bytes) -> bytes:
    edit = facts(body).ask_usage
    return body if edit is None else spliced(body, (edit,))


flags = st.dictionaries(st.sampled_from(("include_usage", "continuous_usage_stats")), st.none() | st.booleans())


@given(bodies, st.tuples(bodies, flags) | st.none() | st.just("absent"), st.sampled_from((None, 1)))
@example({}, ({"n": 10**400}, {"include_usage": False}), None)
@example({}, ({}, {}), 1)
def test_asking_for_usage_changes_nothing_else(document: dict[str, Any], options: Any, indent: int | None) -> None:
    sent = {**document, "model": "m", "stream": True}
    sent.pop("stream_options", None)
    if options != "absent":
        sent["stream_options"] = None if options is None else {**options[0], "include_usage": None, **options[1]}
        if options is not None and not options[1]:
            del sent["stream_options"]["include_usage"]
    metered = asking(json.dumps(sent, indent=indent).encode())
    names = [name for name, _ in json.loads(metered, object_pairs_hook=list)]
    assert len(names) == len(set(names)), "the Rust frontend refuses members that come twice"
    given_options = sent.get("stream_options") or {}
    assert json.loads(metered) == {**sent, "stream_options": {**given_options, "include_usage": True}}


def test_asking_for_usage_keeps_the_bytes_of_a_prompt() -> None:
    body = b' {"model": "m", "stream":true, "messages":[{"content":"\\u00e9  x"}], "n": 1.0}'
    metered = asking(body)
    assert metered.endswith(body[2:])
    assert metered.startswith(b' {"stream_options":{"include_usage":true},')


@pytest.mark.parametrize("decoy", [b'"{ \\"a\\":1 }"', b'[{ "a":1 },{ "a":1 }]', b'{"stream_options":{ "a":1 }}'])
def test_place_of_a_value_is_not_mistaken_for_a_copy_of_it(decoy: bytes) -> None:
    body = b'{"x":%b,"model":"m","stream":true,"stream_options":{ "a":1 },"y":%b}' % (decoy, decoy)
    assert asking(body) == body.replace(
        b'm","stream":true,"stream_options":{', b'm","stream":true,"stream_options":{"include_usage":true,'
    )
