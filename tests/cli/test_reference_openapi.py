"""docs/openapi.json: valid, complete, and true for the SDK's requests and for the engines' answers."""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from aibrix_extproc.cli.reference_docs import DOCS
from aibrix_extproc.cli.reference_openapi import openapi_document
from aibrix_extproc.core.openai.contract.errors import ERRORS, Problem, shape
from aibrix_extproc.core.openai.contract.listing import ModelCard, model_list, one_model
from aibrix_extproc.core.openai.contract.operation_errors import SDK_EXCEPTIONS
from aibrix_extproc.core.openai.contract.operation_rows import OPERATIONS, ROUTER
from aibrix_extproc.core.openai.contract.operations import Action, Match, Operation
from aibrix_extproc.core.openai.contract.paths import normalise
from tests.cli.samples import HOST, component, faults, sent_by

SERVED_ACTIONS = (Action.ROUTE, Action.STICKY, Action.LOCAL, Action.METADATA)
SERVED = tuple(row for row in OPERATIONS if row.action in SERVED_ACTIONS)
SAMPLED = tuple(row for row in SERVED if DOCS[row.id].sdk.startswith("client."))
ABSENT = tuple(row for row in OPERATIONS if row.action not in SERVED_ACTIONS)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(openapi_document())
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def described(document: dict[str, Any], row: Operation) -> dict[str, Any]:
    return next(operation for _, _, operation in operations(document) if operation["operationId"] == row.id)


def resolved(document: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        target: Any = document
        for step in node["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        node = target
    return node


def the_first(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of an error; of operations on engines the first one, since these also tell what engines answered."""
    found = resolved(document, schema)
    return resolved(document, found["anyOf"][0]) if "anyOf" in found else found


def answer_of(document: dict[str, Any], operation: str) -> dict[str, Any]:
    """The schema of its good answer."""
    row = next(row for row in SERVED if row.id == operation)
    schema: dict[str, Any] = described(document, row)["responses"]["200"]["content"]["application/json"]["schema"]
    return schema


@pytest.mark.slow
def test_document_is_valid_openapi(document: dict[str, Any]) -> None:
    assert [str(error) for error in OpenAPIV31SpecValidator(document).iter_errors()] == []


@pytest.mark.parametrize("whole", [True, False])
def test_broken_document_would_be_found(document: dict[str, Any], whole: bool) -> None:
    """By one operation of it alone: reading all schemas takes eight seconds."""
    path = "/v1/models/{model}"
    operation = {**document["paths"][path]["get"], "responses": {"200": {"description": "the model"}}}
    if not whole:
        del operation["parameters"]
    shortened = {**document, "paths": {path: {"get": operation}}, "components": {"parameters": {}, "securitySchemes":
        document["components"]["securitySchemes"]}}  # fmt: skip
    assert bool(list(OpenAPIV31SpecValidator(shortened).iter_errors())) is not whole


def test_every_served_operation_is_there_and_no_other(document: dict[str, Any]) -> None:
    found = {(method, path, one["operationId"]) for method, path, one in operations(document)}
    assert found == {(row.method, row.path.replace("...", ""), row.id) for row in SERVED}
    assert not {row.id for row in ABSENT} & {one["operationId"] for _, _, one in operations(document)}


def test_every_reference_is_used_and_leads_somewhere(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    referred = set(re.findall(r'"#/components/(\w+/[\w.-]+)"', text))
    components = document["components"]
    there = {f"{kind}/{name}" for kind in components if kind != "securitySchemes" for name in components[kind]}
    assert referred == there


@pytest.mark.parametrize("row", SERVED, ids=lambda row: row.id)
def test_operation_says_what_its_row_says(row: Operation, document: dict[str, Any]) -> None:
    one = described(document, row)
    assert one["x-aibrix-action"] == row.action.value
    assert one["x-aibrix-model-in"] == row.model_in.value
    assert one["x-aibrix-stream"] == row.stream.value
    assert ("requestBody" in one) is (row.action is Action.ROUTE or bool(DOCS[row.id].request_media))
    good = one["responses"].get("200", {"content": {}})["content"]
    streams = row.stream.value != "-" or "text/event-stream" in DOCS[row.id].answer_types
    assert ("text/event-stream" in good) is streams
    shapes = {
        the_first(document, resolved(document, failure)["content"]["application/json"]["schema"])["required"][0]
        for status, failure in one["responses"].items()
        if status != "200"
    }
    assert shapes == {"type" if row.anthropic else "error"}


@pytest.mark.parametrize("key", ERRORS)
def test_every_error_follows_its_schema(key: str, document: dict[str, Any]) -> None:
    words = dict.fromkeys(re.findall(r"\{(\w+)\}", ERRORS[key].message), "x")
    problem = Problem(key, words)
    assert faults(document, component("Error"), json.loads(shape(problem).body)) == []
    assert (
        faults(document, component("AnthropicError"), json.loads(shape(problem, anthropic=True, request_id="x").body))
        == []
    )


@pytest.mark.parametrize("wrong", [{"code": 404}, {"param": 1}, {"message": None}, {"extra": "x"}])
def test_error_out_of_shape_is_refused_by_the_schema(wrong: dict[str, object], document: dict[str, Any]) -> None:
    body = {"message": "m", "type": "t", "param": None, "code": None, **wrong}
    assert faults(document, component("Error"), {"error": body})


def test_models_follow_their_schemas(document: dict[str, Any]) -> None:
    cards = (ModelCard("base", max_model_len=8), ModelCard("lora", parent="base"))
    assert faults(document, answer_of(document, "list_models"), json.loads(model_list(cards))) == []
    for card in cards:
        assert faults(document, answer_of(document, "retrieve_model"), json.loads(one_model(card))) == []


def test_examples_follow_their_schemas(document: dict[str, Any]) -> None:
    requests, answers = [], []
    for _, path, one in operations(document):
        for media in one.get("requestBody", {"content": {}})["content"].values():
            if "example" in media:
                requests.append(path)
                assert (path, faults(document, media["schema"], media["example"])) == (path, [])
        answer = one["responses"].get("200", {}).get("content", {}).get("application/json", {})
        if "example" in answer:
            answers.append(path)
            assert (path, faults(document, answer["schema"], answer["example"])) == (path, [])
    assert {"/v1/chat/completions", "/v1/responses", "/v1/embeddings", "/v1/messages"} <= {*requests} & {*answers}


# --- the samples, sent by the SDK


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # says the SDK of translations
@pytest.mark.parametrize("row", SAMPLED, ids=lambda row: row.id)
def test_sample_of_the_sdk_asks_for_its_operation(row: Operation, document: dict[str, Any]) -> None:
    request = sent_by(DOCS[row.id].sdk)
    match = ROUTER.match(request.method, normalise(request.url.raw_path.decode()))
    assert isinstance(match, Match)
    assert match.operation is row
    accepted = described(document, row).get("requestBody", {"content": {}})["content"]
    if accepted:
        media = request.headers["content-type"].partition(";")[0]
        assert media in accepted
        if media == "application/json":
            assert faults(document, accepted[media]["schema"], json.loads(request.content)) == []


def test_only_samples_of_anthropics_sdk_are_not_sent() -> None:
    assert {row.id for row in SERVED} - {row.id for row in SAMPLED} == {row.id for row in SERVED if row.anthropic}


@pytest.mark.parametrize(("status", "name"), [(status, name) for status, (name, _) in SDK_EXCEPTIONS.items()])
def test_status_raises_the_exception_that_the_page_names(status: int, name: str) -> None:
    transport = httpx2.Client(transport=httpx2.MockTransport(lambda _: httpx2.Response(status, json={"error": {}})))
    with (
        openai.OpenAI(base_url=HOST, api_key="sk-x", http_client=transport, max_retries=0) as client,
        pytest.raises(openai.APIStatusError) as raised,
    ):
        client.models.list()
    assert type(raised.value).__name__ == name
