"""What constrains a request's text, and which constraints are refused before an engine sees them."""

import json
from typing import Any

import pytest

from aibrix_extproc.core.openai.contract.errors import Problem, error_object
from aibrix_extproc.core.openai.wire.request import RequestFacts, read_json
from aibrix_extproc.core.openai.wire.schemas import MAX_SCHEMA_BYTES

SELF = {"$ref": "#"}
TAGS = {"structures": [{"begin": "<a>", "schema": SELF, "end": "</a>"}], "triggers": ["<a>"]}


def named(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}


def read(**members: Any) -> RequestFacts | Problem:
    return read_json(json.dumps({"model": "m", **members}).encode())


@pytest.mark.parametrize(
    ("members", "param", "code"),
    [
        ({"response_format": named(SELF)}, "response_format", "invalid_json_schema"),
        ({"response_format": {"type": "structural_tag", **TAGS}}, "response_format", "invalid_json_schema"),
        ({"structured_outputs": {"json": SELF}}, "structured_outputs.json", "invalid_json_schema"),
        ({"structured_outputs": {"json": json.dumps(SELF)}}, "structured_outputs.json", "invalid_json_schema"),
        ({"structured_outputs": {"grammar": "root ::= root"}}, "structured_outputs.grammar", "invalid_value"),
        ({"structured_outputs": {"structural_tag": json.dumps(TAGS)}}, "structured_outputs.structural_tag",
         "invalid_json_schema"),
        ({"text": {"format": {"type": "json_schema", "name": "x", "schema": SELF}}}, "text.format.schema",
         "invalid_json_schema"),
        ({"output_config": {"format": {"type": "json_schema", "schema": SELF}}}, "output_config.format.schema",
         "invalid_json_schema"),
    ],
    ids=["schema", "tags", "json", "json-as-text", "grammar", "tags-as-text", "responses", "messages"],
)  # fmt: skip
def test_constraint_that_nothing_can_match_is_refused(members: dict[str, Any], param: str, code: str) -> None:
    problem = read(**members)
    assert isinstance(problem, Problem)
    fields = error_object(problem)
    assert (problem.http_status, fields["type"]) == (400, "invalid_request_error")
    assert (fields["param"], fields["code"]) == (param, code)


@pytest.mark.parametrize("schema", [True, False, 5, -1.5, "x", [1]], ids=str)
def test_schema_that_is_no_object_is_refused_whatever_surrounds_it(schema: object) -> None:
    around = {"title": "x" * MAX_SCHEMA_BYTES}
    for members, param in (
        ({"response_format": {**around, **named(schema)}}, "response_format.json_schema.schema"),
        ({"text": {"format": {**around, "type": "json_schema", "schema": schema}}}, "text.format.schema"),
        ({"output_config": {**around, "format": {"schema": schema}}}, "output_config.format.schema"),
    ):
        problem = read(**members)
        assert isinstance(problem, Problem)
        assert (problem.key, problem.param) == ("invalid_type", param)


@pytest.mark.parametrize("value", [True, 5, -1.5, "x", [], [1]], ids=str)
def test_structured_outputs_that_are_no_object_are_refused(value: object) -> None:
    problem = read(structured_outputs=value)
    assert isinstance(problem, Problem)
    assert (problem.key, problem.param) == ("invalid_type", "structured_outputs")


@pytest.mark.parametrize("schema", [True, 5, -1.5, [], [{}]], ids=str)
def test_schema_of_vllm_that_is_neither_an_object_nor_a_text_is_refused(schema: object) -> None:
    for around in ({}, {"title": "x" * MAX_SCHEMA_BYTES}):
        problem = read(structured_outputs={**around, "json": schema})
        assert isinstance(problem, Problem)
        assert (problem.key, problem.param) == ("invalid_type", "structured_outputs.json")


def test_schema_that_is_null_is_refused_where_an_engine_would_hang() -> None:
    problem = read(response_format=named(None))
    assert isinstance(problem, Problem)
    assert (problem.key, problem.param) == ("invalid_type", "response_format.json_schema.schema")
    assert isinstance(read(text={"format": {"type": "text", "schema": None}}), RequestFacts)
    assert isinstance(read(structured_outputs={"json": None, "regex": "a"}), RequestFacts)


def test_schema_that_is_empty_is_left_to_the_engine() -> None:
    assert isinstance(read(response_format=named({})), RequestFacts)


def test_escapes_hide_nothing() -> None:
    raw = json.dumps({"model": "m", "response_format": named(SELF)}).replace("$", "\\u0024").encode()
    assert isinstance(read_json(raw), Problem)
    grammar = json.dumps({"model": "m", "structured_outputs": {"grammar": "root ::= root"}}).replace(":=", "\\u003a=")
    assert isinstance(read_json(grammar.encode()), Problem)


@pytest.mark.parametrize(
    ("members", "constrained_by"),
    [
        ({}, None),
        ({"response_format": None, "structured_outputs": None, "text": None}, None),
        ({"response_format": 5, "structured_outputs": None, "text": [], "output_config": "x"}, None),
        ({"response_format": named({"type": "object"})}, "response_format"),
        ({"structured_outputs": {"regex": "a"}}, "structured_outputs"),
        ({"text": {"format": {"type": "text"}}}, None),
        ({"text": {"verbosity": "low"}}, None),
        ({"text": {"format": {"type": "json_schema", "name": "x", "schema": {}}}}, "text"),
        ({"output_config": {"effort": "low"}}, None),
        ({"output_config": {"format": {"type": "json_schema", "schema": {}}}}, "output_config"),
        ({"response_format": {"json_schema": 5, "x": "\\u"}}, "response_format"),
        ({"structured_outputs": {"json": "$ref {", "grammar": 5}}, "structured_outputs"),
        ({"response_format": {"structures": ["$ref", {"schema": None}]}}, "response_format"),
    ],
    ids=str,
)
def test_member_that_constrains_the_text_is_named(members: dict[str, Any], constrained_by: str | None) -> None:
    facts = read(**members)
    assert isinstance(facts, RequestFacts)
    assert facts.constrained_by == constrained_by


def test_members_over_the_bound_are_left_to_the_engine() -> None:
    half = "x" * (MAX_SCHEMA_BYTES // 2)
    facts = read(response_format=named({"title": half}), structured_outputs={"json": {"title": half, **SELF}})
    assert isinstance(facts, RequestFacts)
    assert facts.constrained_by == "structured_outputs"
