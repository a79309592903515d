"""Which fields of answers have been seen, from the answers themselves."""

from collections.abc import Mapping
from typing import Any

from aibrix_extproc.interfaces.fields import FieldAt, Step, fields_of, variants

Json = dict[str, Any]


class Seen:
    """Collects, for one schema, which of its fields had a value and which only null."""

    def __init__(self, schema: Json, definitions: Mapping[str, Json]) -> None:
        self._schema = schema
        self._definitions = definitions
        self.fields: tuple[FieldAt, ...] = fields_of(schema, definitions)
        self._owned = {(field.owner, field.name): field.path for field in self.fields if field.owner}
        self._placed = {field.steps: field.path for field in self.fields}
        self._found: dict[str, str] = {}
        self.unknown: set[str] = set()

    def add(self, value: Any) -> None:
        """Take one answer or event."""
        self._visit(value, self._schema, ())

    def verdicts(self) -> dict[str, str]:
        """`seen`, `null` or `absent` for each field."""
        return {field.path: self._found.get(field.path, "absent") for field in self.fields}

    def _visit(self, value: Any, schema: Json, steps: tuple[Step, ...]) -> None:
        chosen = self._chosen(value, schema)
        if chosen is None:
            return
        number, owner, variant = chosen
        if isinstance(value, list):
            for one in value:
                self._visit(one, variant.get("items", {}), (*steps, Step("[]", number)))
            return
        for name, inner in value.items() if isinstance(value, dict) else ():
            here = (*steps, Step(name, number))
            if name in variant.get("properties", {}):
                path = self._owned.get((owner, name)) or self._placed.get(here)
                if path and self._found.get(path) != "seen":
                    self._found[path] = "null" if inner is None else "seen"
                self._visit(inner, variant["properties"][name], here)
            elif isinstance(variant.get("additionalProperties"), dict):
                self._visit(inner, variant["additionalProperties"], (*steps, Step("{}", number)))
            elif "properties" in variant:
                self.unknown.add(f"{owner}.{name}")

    def _chosen(self, value: Any, schema: Json) -> tuple[int, str, Json] | None:
        """The variant that a value follows: the one with the most of its members, and no other constant."""
        best: tuple[int, tuple[int, str, Json]] | None = None
        for number, (owner, variant) in enumerate(variants(schema, self._definitions)):
            score = _agreement(value, variant)
            if score is not None and (best is None or score > best[0]):
                best = (score, (number, owner, variant))
        return best[1] if best else None


def _agreement(value: Any, variant: Json) -> int | None:
    if isinstance(value, list):
        return 0 if variant.get("type") == "array" else None
    if not isinstance(value, dict) or not ("properties" in variant or variant.get("type") == "object"):
        return None
    properties = variant.get("properties", {})
    for name, schema in properties.items():
        if name in value and "const" in schema and value[name] != schema["const"]:
            return None
    return sum(name in properties for name in value)
