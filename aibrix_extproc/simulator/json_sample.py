"""A value that is valid for a JSON schema, and the arguments of a tool call.

Covers what clients of structured output send (objects, arrays, enums, references, unions, formats and
bounds); a schema with patterns or contradictions gets a plausible value instead.
"""

import json
from typing import Any, Final

from aibrix_extproc.simulator.errors import bad_request

_MAX_DEPTH: Final = 12
_DEEP: Final = 4
_FORMATS: Final = {
    "date": "2024-05-17",
    "date-time": "2024-05-17T12:30:00Z",
    "time": "12:30:00Z",
    "email": "ada@example.com",
    "uri": "https://example.com/",
    "uuid": "123e4567-e89b-12d3-a456-426614174000",
    "ipv4": "192.0.2.1",
}


def sample_json(schema: object) -> str:
    """JSON text of a value of `schema`, written as a model would: with spaces.

    EngineError: a keyword of the schema has a value of a wrong type.
    """
    try:
        return json.dumps(sample(schema, schema, 0), ensure_ascii=False)
    except (TypeError, AttributeError, KeyError, ValueError) as error:
        raise bad_request("Grammar error: Invalid JSON schema") from error


def sample(schema: object, root: object, depth: int) -> Any:
    """A value of `schema`; references are looked up in `root`."""
    if not isinstance(schema, dict) or depth > _MAX_DEPTH:
        return None
    if "$ref" in schema:
        return sample(_resolve(str(schema["$ref"]), root), root, depth + 1)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    for union in ("anyOf", "oneOf"):
        if schema.get(union):
            return sample(_pick(schema[union], depth), root, depth + 1)
    if schema.get("allOf"):
        merged: dict[str, Any] = {}
        for part in schema["allOf"]:
            merged |= _resolve(str(part["$ref"]), root) if "$ref" in part else part
        return sample(merged, root, depth + 1)
    return _by_type(schema, root, depth)


def _pick(choices: list[Any], depth: int) -> object:
    """The first choice; deep down null, if it is one, which ends recursive schemas."""
    nothing = {"type": "null"}
    return nothing if depth >= _DEEP and nothing in choices else choices[0]


def _by_type(schema: dict[str, Any], root: object, depth: int) -> Any:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((name for name in kind if name != "null"), "null")
    if kind == "object" or (kind is None and "properties" in schema):
        return _object(schema, root, depth)
    if kind == "array":
        items = schema.get("items", {"type": "string"})
        return [sample(items, root, depth + 1) for _ in range(max(1, int(schema.get("minItems", 1))))]
    if kind in ("integer", "number"):
        return _number(schema, kind)
    if kind == "boolean":
        return True
    if kind == "null":
        return None
    return _string(schema)


def _object(schema: dict[str, Any], root: object, depth: int) -> dict[str, Any]:
    properties = schema.get("properties") or {}
    required = schema.get("required", [])
    # Deep down only what is required is written, which ends the other kind of recursive schemas.
    names = list(properties) if depth < _DEEP else [name for name in properties if name in required]
    return {name: sample(properties[name], root, depth + 1) for name in names}


def _number(schema: dict[str, Any], kind: str) -> int | float:
    step = 1 if kind == "integer" else 0.5
    value: int | float = 1 if kind == "integer" else 1.5
    if "maximum" in schema:
        value = min(value, schema["maximum"])
    if "exclusiveMaximum" in schema and value >= schema["exclusiveMaximum"]:
        value = schema["exclusiveMaximum"] - step
    if "minimum" in schema:
        value = max(value, schema["minimum"])
    if "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]:
        value = schema["exclusiveMinimum"] + step
    if schema.get("multipleOf"):
        multiple = schema["multipleOf"]
        value = -(-value // multiple) * multiple
    return int(value) if kind == "integer" else value


def _string(schema: dict[str, Any]) -> str:
    text = _FORMATS.get(str(schema.get("format")), "sample")
    text = text.ljust(int(schema.get("minLength", 0)), "a")
    return text[: int(schema["maxLength"])] if "maxLength" in schema else text


def _resolve(reference: str, root: object) -> Any:
    node: Any = root
    for part in reference.removeprefix("#").strip("/").split("/"):
        if part:
            node = node.get(part.replace("~1", "/").replace("~0", "~"), {}) if isinstance(node, dict) else {}
    return node
