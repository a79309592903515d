"""docs/openapi.json: the served operations as OpenAPI 3.1, for generators and gateways.

Schemas are open: they say what is known of a body, and let everything else pass, as the gateway does. What OpenAPI has
no word for stands in `x-aibrix-*` members. `x-measured` of a field of a request says what an engine did with it, by
operation, as docs/api.md explains it.
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from aibrix_extproc import __version__
from aibrix_extproc.cli.reference_docs import DOCS
from aibrix_extproc.cli.reference_examples import example_of
from aibrix_extproc.cli.reference_markdown import COMMAND
from aibrix_extproc.cli.reference_operation import answer_types, request_type
from aibrix_extproc.cli.reference_schemas import Schemas, camel, value_of
from aibrix_extproc.core.openai.contract import headers
from aibrix_extproc.core.openai.contract.errors import ERRORS, Problem, shape
from aibrix_extproc.core.openai.contract.operation_errors import errors_of
from aibrix_extproc.core.openai.contract.operation_rows import OPERATIONS
from aibrix_extproc.core.openai.contract.operations import Action, Operation
from aibrix_extproc.core.openai.reference.header_docs import REQUEST_HEADERS, RESPONSE_HEADERS
from aibrix_extproc.core.openai.reference.operation_docs import BYTES, EVENTS, JSON, OperationDoc
from aibrix_extproc.core.openai.reference.topics import ENGINES, TOPICS, topic_of
from aibrix_extproc.interfaces.catalogue import deprecations
from aibrix_extproc.interfaces.verdicts import NEWEST

Json = dict[str, Any]

_PARAMETER: Final = re.compile(r"\{(\w+)(?:\.\.\.)?\}")
_WORDS: Final = re.compile(r"\{(\w+)\}")  # of a message that are filled in
_REST: Final = re.compile(r"\{(\w+)\.\.\.\}")
_OF_ENGINES: Final = "engines_disagree"  # an error of operations that engines answer
_SERVED: Final = (Action.ROUTE, Action.STICKY, Action.LOCAL, Action.METADATA)
_DESCRIPTION: Final = (
    "A fleet of vLLM engines as one OpenAI API. Take any OpenAI SDK; this document is for other clients. Members that "
    "a schema does not list are forwarded as they are."
)


def openapi_document() -> str:
    """The document as text."""
    document = _document()
    _complete(document)
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _complete(node: Any) -> None:
    """Give arrays of which nothing is known items of which nothing is known: generators ask for them."""
    if isinstance(node, dict):
        if "array" in (node.get("type"), *(node["type"] if isinstance(node.get("type"), list) else ())):
            node.setdefault("items", {})
        for value in node.values():
            _complete(value)
    elif isinstance(node, list):
        for value in node:
            _complete(value)


def _document() -> Json:
    schemas, failures = Schemas(), _Failures()
    paths: Json = {}
    for row in OPERATIONS:
        if row.action in _SERVED:
            made = _operation(row, DOCS[row.id], schemas)
            made["responses"] |= failures.of(row)
            paths.setdefault(_path(row), {})[row.method.lower()] = made
    return {
        "openapi": "3.1.0",
        "info": {"title": "aibrix-extproc", "version": __version__, "description": _DESCRIPTION},
        "x-generated-by": COMMAND,
        "x-measured-on": NEWEST,
        "servers": [{"url": "/", "description": "The gateway. The base URL of an OpenAI SDK is this with /v1."}],
        "security": [{"bearer": []}, {"x-api-key": []}, {"api-key": []}],
        "tags": [{"name": one.name, "description": one.meaning} for one in (*TOPICS, ENGINES)],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "As OpenAI's SDKs send it."},
                "x-api-key": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "x-api-key",
                    "description": "As Anthropic's SDK sends it.",
                },
                "api-key": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "api-key",
                    "description": "As Azure's clients send it.",
                },
            },
            "parameters": _header_parameters(),
            "headers": _headers(),
            "responses": failures.found,
            "schemas": {**_error_schemas(), **schemas.found},
        },
    }


def _path(row: Operation) -> str:
    return _REST.sub(r"{\1}", row.path)


def _operation(row: Operation, doc: OperationDoc, schemas: Schemas) -> Json:
    made: Json = {"operationId": row.id, "tags": [topic_of(row).name], "summary": doc.summary}
    notes = [*doc.openai, *doc.vllm, *doc.limits]
    if notes:
        made["description"] = "\n".join(f"- {note}" for note in notes)
    parameters = list(_parameters(row, doc, schemas))
    if parameters:
        made["parameters"] = parameters
    media = request_type(row, doc)
    if media and doc.request:
        schema = schemas.request(row, doc.request)
        shown = example_of(row).request
        content = {"schema": schema} | ({"example": shown} if shown is not None and media == JSON else {})
        made["requestBody"] = {"required": True, "content": {media: content}}
    made["responses"] = {"200": _answer(row, doc, schemas)} if answer_types(row, doc) else {}
    made |= {"x-aibrix-action": row.action.value, "x-aibrix-model-in": row.model_in.value}
    made |= {"x-aibrix-stream": row.stream.value, "x-aibrix-usage-in": row.usage_in.value}
    if row.id in deprecations():
        replaced = deprecations()[row.id].items()
        made["x-aibrix-deprecations"] = [{"field": field, "instead": instead} for field, instead in replaced]
    return made | ({"x-aibrix-tasks": sorted(row.tasks)} if row.tasks else {})


def _parameters(row: Operation, doc: OperationDoc, schemas: Schemas) -> Iterator[Json]:
    for name in _PARAMETER.findall(row.path):
        rest = {"description": "May hold slashes, raw or as %2F."} if f"{{{name}...}}" in row.path else {}
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string"}, **rest}
    meanings = {one.name: one.meaning for one in doc.query}
    for name, value in {**schemas.query(row), **{one.name: value_of(one) for one in doc.query}}.items():
        schema = {key: told for key, told in value.items() if key not in ("description", "x-vllm")}
        yield {"name": name, "in": "query", "description": meanings.get(name, value["description"]), "schema": schema}
    if row.action is Action.ROUTE:
        yield from ({"$ref": f"#/components/parameters/{name}"} for name in sorted(headers.ROUTING_HEADERS))
    if row.action in (Action.ROUTE, Action.STICKY):
        yield {"$ref": f"#/components/parameters/{headers.READ_TIMEOUT}"}


def _answer(row: Operation, doc: OperationDoc, schemas: Schemas) -> Json:
    content: Json = {}
    for media in answer_types(row, doc):
        if media == JSON:
            content[media] = {"schema": schemas.answer(row, doc.answer)}
            if example_of(row).answer is not None:
                content[media]["example"] = example_of(row).answer
        elif media == EVENTS:
            content[media] = {"schema": {"description": doc.streaming}}
            event = schemas.event(row)
            if event is not None:  # OpenAPI 3.1 has no word for the items of a stream
                content[media]["x-aibrix-event"] = event
        else:
            content[media] = {"schema": {} if media == BYTES else {"type": "string"}}
    names = [headers.REQUEST_ID, "openai-version"]
    if row.action is not Action.LOCAL:
        names.append("openai-processing-ms")
    return {"description": doc.summary, "headers": _header_references(names), "content": content}


class _Failures:
    """Responses with errors; operations that can fail alike share one, named after the first."""

    def __init__(self) -> None:
        self.found: Json = {}
        self._names: dict[tuple[str, tuple[str, ...]], str] = {}

    def of(self, row: Operation) -> Json:
        """References to the failures of an operation, by status."""
        by_status: dict[int, list[str]] = {}
        for key in sorted(errors_of(row)):
            by_status.setdefault(ERRORS[key].status, []).append(key)
        return {str(status): self._reference(row, status, keys) for status, keys in sorted(by_status.items())}

    def _reference(self, row: Operation, status: int, keys: Sequence[str]) -> Json:
        wanted, shape_name = f"{camel(row.id)}{status}", _shape_of(row)
        name = self._names.setdefault((shape_name, tuple(keys)), wanted)
        if name == wanted:
            self.found[name] = _failure(keys, shape_name)
        return {"$ref": f"#/components/responses/{name}"}


def _shape_of(row: Operation) -> str:
    """The schema of its errors."""
    if _OF_ENGINES in row.errors:
        return "OperatedError"
    return "AnthropicError" if row.anthropic else "Error"


def _failure(keys: Sequence[str], shape_name: str) -> Json:
    names = [headers.REQUEST_ID]
    if any(ERRORS[key].retry_after_seconds is not None for key in keys):
        names.append("retry-after")
    if any(ERRORS[key].should_retry is not None for key in keys):
        names.append("x-should-retry")
    schema = {"$ref": f"#/components/schemas/{shape_name}"}
    anthropic = shape_name == "AnthropicError"
    return {
        "description": "\n".join(f"- {key}: {ERRORS[key].when}" for key in keys),
        "headers": _header_references(names),
        "content": {JSON: {"schema": schema, "examples": {key: _example(key, anthropic=anthropic) for key in keys}}},
    }


def _example(key: str, *, anthropic: bool) -> Json:
    """The body of an error, with the names of its parameters in capitals."""
    words = {name: name.upper() for name in _WORDS.findall(ERRORS[key].message)}
    body: Json = json.loads(shape(Problem(key, words), anthropic=anthropic, request_id="REQUEST_ID").body)
    return {"value": body}


def _header_references(names: Sequence[str]) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _headers() -> Json:
    numbers = {"openai-processing-ms", "retry-after"}
    used = (headers.REQUEST_ID, "openai-version", "openai-processing-ms", "retry-after", "x-should-retry")
    return {
        name: {
            "description": RESPONSE_HEADERS[name][1],
            "schema": {"type": "integer" if name in numbers else "string"},
        }
        for name in used
    }


def _header_parameters() -> Json:
    kinds = {**dict.fromkeys(sorted(headers.ROUTING_HEADERS), "string"), headers.READ_TIMEOUT: "number"}
    return {
        name: {"name": name, "in": "header", "description": REQUEST_HEADERS[name], "schema": {"type": kind}}
        for name, kind in kinds.items()
    }


def _error_schemas() -> Json:
    text, nullable = {"type": "string"}, {"type": ["string", "null"]}
    error = {"message": text, "type": text, "param": nullable, "code": nullable}
    anthropic = {"type": text, "message": text}
    results = {"type": "array", "items": {"type": "object"}, "description": "the result of each engine"}
    return {
        "Error": _closed({"error": _closed(error, endpoints=results)}),
        "OperatedError": {
            "anyOf": [
                {"$ref": "#/components/schemas/Error"},
                {"type": "object", "description": "what all engines have answered, in their own words"},
            ]
        },
        "AnthropicError": _closed({"type": {"const": "error"}, "error": _closed(anthropic), "request_id": text}),
    }


def _closed(properties: Json, **optional: Json) -> Json:
    known = {**properties, **optional}
    return {"type": "object", "properties": known, "required": list(properties), "additionalProperties": False}
