"""What of a request's body constrains the text that is generated, and the refusal of what no text can satisfy.

Which member it is decides what an engine's failure means: vLLM answers "Internal server error" where a constraint and
the model cannot go together, and names nothing.
"""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.wire.schemas import MAX_SCHEMA_BYTES, is_endless_grammar, is_endless_schema, read_schema

CONSTRAINING: Final = ("response_format", "structured_outputs", "text", "output_config")
# What a recursive schema must have, and a grammar; an escape may hide either.
_SIGNS: Final = (b"$ref", b"::=", b"\\u")
_ABSENT: Final = msgspec.Raw()
_SCHEMA_PATHS: Final = {
    "response_format": ("json_schema", "schema"), "text": ("format", "schema"), "output_config": ("format", "schema"),
}  # fmt: skip
_WIDER: Final = frozenset({"text", "output_config"})  # members that constrain the text only if a schema is in them
# Decoders that pick one member out of an object, however large it is, and keep nothing of the others.
_MEMBERS: Final[dict[str, msgspec.json.Decoder[Any]]] = {
    name: msgspec.json.Decoder(msgspec.defstruct(f"_{name}", [("value", msgspec.Raw, _ABSENT)], rename={"value": name}))
    for name in ("json_schema", "schema", "format", "json")
}
_WRONG_TYPES: Final = {
    b"t": "a boolean", b"f": "a boolean", b'"': "a string", b"[": "an array",
    **{str(digit).encode(): "a number" for digit in range(10)}, b"-": "a number",
}  # fmt: skip
_SCHEMA_REASON: Final = "it refers only to itself, so nothing can match it"


def constrained_by(members: dict[str, msgspec.Raw]) -> str | Problem | None:
    """The name of the member that constrains the text, or the refusal."""
    constraining, left = None, MAX_SCHEMA_BYTES
    for name, raw in members.items():
        wrong = _wrong_type(name, raw)
        if wrong is not None:
            return wrong
        if bytes(memoryview(raw)[:1]) != b"{":
            continue
        if memoryview(raw).nbytes > left:
            constraining = name
            continue
        left -= memoryview(raw).nbytes
        value = bytes(raw)
        constraining = name if name not in _WIDER or b"json_schema" in value else constraining
        if any(sign in value for sign in _SIGNS):
            problem = _objection(name, value)
            if problem is not None:
                return problem
    return constraining


def _wrong_type(name: str, raw: msgspec.Raw) -> Problem | None:
    """The refusal of a schema, or of `structured_outputs`, that is no object: vLLM answers 500.

    Of the schema `false` the engine behind vLLM's Rust frontend dies. Of `response_format` with a schema that is null,
    and of a `structured_outputs.json` that is neither an object nor a text, the thread of that engine dies which reads
    requests: it looks healthy, and answers nobody again.
    """
    path: tuple[str, ...] = _SCHEMA_PATHS.get(name, ())
    value = _inside_raw(raw, path)
    if name == "response_format" and bytes(memoryview(value)) == b"null":
        return _no_object((name, *path), "null")
    got = _WRONG_TYPES.get(bytes(memoryview(value)[:1]))
    if got is None and name == "structured_outputs":
        path, value = ("json",), _inside_raw(raw, ("json",))
        got = None if bytes(memoryview(value)[:1]) == b'"' else _WRONG_TYPES.get(bytes(memoryview(value)[:1]))
    return None if got is None else _no_object((name, *path), got)


def _inside_raw(value: msgspec.Raw, path: tuple[str, ...]) -> msgspec.Raw:
    """The member at the end of a path; empty if there is none, or if what is around it is no object or broken."""
    for member in path:
        try:
            value = _MEMBERS[member].decode(value).value
        except (msgspec.DecodeError, RecursionError):
            return _ABSENT
    return value


def _no_object(path: tuple[str, ...], got: str) -> Problem:
    param = ".".join(path)
    return Problem("invalid_type", {"param": param, "expected": "an object", "got": got}, param=param)


def _objection(name: str, value: bytes) -> Problem | None:
    document = read_schema(value)
    if not isinstance(document, dict):
        return None
    for param, schema in _schemas(name, document):
        if is_endless_schema(schema):
            message = f"Invalid schema for '{param}': {_SCHEMA_REASON}."
            return Problem("invalid_value", {"message": message}, param=param, code="invalid_json_schema")
    grammar = document.get("grammar") if name == "structured_outputs" else None
    if isinstance(grammar, str) and is_endless_grammar(grammar):
        param = "structured_outputs.grammar"
        message = f"Invalid '{param}': a rule leads only to itself, so nothing can match it."
        return Problem("invalid_value", {"message": message}, param=param)
    return None


def _schemas(name: str, document: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The schemas in a member, with what OpenAI calls them."""
    if name == "response_format":
        yield name, _inside(document, "json_schema", "schema")
        yield from _tagged(name, document)
    elif name in _WIDER:
        yield f"{name}.format.schema", _inside(document, "format", "schema")
    else:
        yield f"{name}.json", _parsed(document.get("json"))
        yield from _tagged(f"{name}.structural_tag", _parsed(document.get("structural_tag")))


def _tagged(param: str, document: Any) -> Iterator[tuple[str, Any]]:
    structures = document.get("structures") if isinstance(document, dict) else None
    for one in structures if isinstance(structures, list) else ():
        yield param, _inside(one, "schema")


def _inside(document: Any, *names: str) -> Any:
    for name in names:
        document = document.get(name) if isinstance(document, dict) else None
    return document


def _parsed(value: Any) -> Any:
    """A value of these members, which vLLM takes as JSON or as text with JSON in it."""
    return read_schema(value.encode("utf-8", "replace")) if isinstance(value, str) else value
