"""The charts' values as tables: default, schema and meaning stand in one row, and three files follow from it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml

Schema = Mapping[str, Any]
TEXT: Final[Schema] = {"type": "string", "minLength": 1}
ANY_TEXT: Final[Schema] = {"type": "string"}
PULL_POLICY: Final[Schema] = {"enum": ["", "Always", "IfNotPresent", "Never"]}
SERVICE_TYPE: Final[Schema] = {"enum": ["", "ClusterIP", "LoadBalancer", "NodePort"]}
FLAG: Final[Schema] = {"type": "boolean"}
COUNT: Final[Schema] = {"type": "integer", "minimum": 1}
NAME: Final[Schema] = {"type": "string", "pattern": "^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$"}
OBJECT: Final[Schema] = {"type": "object"}
PAIRS: Final[Schema] = {"type": "object", "additionalProperties": {"type": "string"}}
NAMED_LIST: Final[Schema] = {
    "type": "array",
    "items": {"type": "object", "required": ["name"], "properties": {"name": TEXT}},
}
OBJECTS: Final[Schema] = {"type": "array", "items": OBJECT}
RESOURCES: Final[Schema] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        part: {"type": "object", "additionalProperties": {"type": ["string", "number"]}}
        for part in ("requests", "limits")
    },
}
NAMESPACES: Final[Schema] = {
    "type": "array",
    "uniqueItems": True,
    "items": {"type": "string", "pattern": "^([*]|[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)$"},
}


@dataclass(frozen=True, slots=True)
class Value:
    """One value: its path with dots, its default, its schema, what it is for."""

    path: str
    default: Any
    schema: Schema
    meaning: str


def defaults(rows: Iterable[Value]) -> dict[str, Any]:
    """The values' tree."""
    tree: dict[str, Any] = {}
    for row in rows:
        place = tree
        *parents, last = row.path.split(".")
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = row.default
    return tree


def values_file(head: str, rows: Iterable[Value]) -> str:
    """values.yaml, each value under a line that says what it is for."""
    lines = [f"# {line}" for line in head.strip().splitlines()]
    open_parents: list[str] = []
    for row in rows:
        *parents, last = row.path.split(".")
        if parents != open_parents:
            lines += [f"{'  ' * depth}{parent}:" for depth, parent in enumerate(parents) if parents[: depth + 1] !=
                      open_parents[: depth + 1]]  # fmt: skip
            open_parents = parents
        indent = "  " * len(parents)
        lines += [f"{indent}# {line}" for line in row.meaning.splitlines()]
        body = yaml.safe_dump({last: row.default}, sort_keys=False, default_flow_style=False).rstrip()
        lines += [f"{indent}{line}" for line in body.splitlines()]
    return "\n".join(lines) + "\n"


def schema_file(rows: Iterable[Value], exclusive: Sequence[str]) -> str:
    """values.schema.json, which refuses values that the chart does not have, and switches that exclude each other."""
    root = _closed()
    for row in rows:
        place = root
        *parents, last = row.path.split(".")
        for parent in parents:
            place = place["properties"].setdefault(parent, _closed())
        place["properties"][last] = {**row.schema, "description": row.meaning}
    root["properties"]["global"] = {"type": "object", "description": "Helm's own, of charts that have this one in them"}
    on = {"required": ["enabled"], "properties": {"enabled": {"const": True}}}
    root["not"] = {"required": list(exclusive), "properties": dict.fromkeys(exclusive, on)}
    return json.dumps({"$schema": "http://json-schema.org/draft-07/schema#", **root}, indent=2) + "\n"


def _closed() -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": {}}
