"""Values that follow a schema, as small as they can be, and values that do not."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from aibrix_extproc.interfaces.fields import Step, variants

Json = dict[str, Any]

_OTHERS: Final[tuple[tuple[str, Any], ...]] = (
    ("string", "hot"), ("integer", 7), ("object", {"no": 7}), ("array", [[]]), ("boolean", True),
)  # fmt: skip


class Values:
    """Makes values. `usable` has, by the name of a field, what an engine can do something with.

    `together` has, by the name of a definition, members that its objects need though the schema does not say so, and
    `unless` with the fields beside which they do not stand.
    """

    def __init__(
        self, definitions: Mapping[str, Json], usable: Mapping[str, Any], together: Mapping[str, Json] | None = None
    ) -> None:
        self._definitions = definitions
        self._usable = usable
        self._together = together or {}

    def valid(self, schema: Json, name: str = "") -> Any:
        """A value that follows the schema, and differs from its default if it can."""
        owner, first = self._owned_choices(schema)[0]
        if name in self._usable and "const" not in first and _fits(self._usable[name], first):
            return self._usable[name]
        if "const" in first:
            return first["const"]
        if "enum" in first:
            others = [one for one in first["enum"] if one != schema.get("default", first.get("default"))]
            return (others or first["enum"])[0]
        return self._plain(first, schema, owner)

    def _plain(self, first: Json, schema: Json, owner: str) -> Any:
        kind = first.get("type")
        if kind == "boolean":
            return not schema.get("default", first.get("default", False))
        if kind in ("integer", "number"):
            return max(first.get("minimum", 2), 2) if kind == "integer" else 0.5
        if kind == "array":
            return [self.valid(first["items"])] if first.get("items") else []
        if kind == "object" or "properties" in first:
            return self._object(owner, first)
        return "text"

    def _object(self, owner: str, schema: Json, leaf: str = "") -> Json:
        properties = schema.get("properties", {})
        needed = {name: self.valid(properties[name], name) for name in schema.get("required", ()) if name in properties}
        row = self._together.get(owner, {"members": {}})
        return needed if leaf in row.get("unless", ()) else {**needed, **row["members"]}

    def holding(self, schema: Json, steps: Sequence[Step], leaf: Any = None, *, without: bool = False) -> Any:
        """A value that has the field at the end of the steps, or has all but that field."""
        step, *rest = steps
        owner, variant = variants(schema, self._definitions)[step.variant]
        if step.name == "[]":
            return [self.holding(variant["items"], rest, leaf, without=without)]
        if step.name == "{}":
            return {"a": self.holding(variant["additionalProperties"], rest, leaf, without=without)}
        made = self._object(owner, variant, step.name)
        if rest:
            made[step.name] = self.holding(variant["properties"][step.name], rest, leaf, without=without)
        elif without:
            made.pop(step.name, None)
        else:
            made[step.name] = leaf
        return made

    def wrong(self, schema: Json) -> Any:
        """A value of a type that the schema does not take; None if it takes every type."""
        kinds = {kind for one in self._choices(schema) for kind in _kinds_of(one)}
        if "any" in kinds:
            return None
        taken = kinds | ({"integer"} if "number" in kinds else set())
        return next((value for kind, value in _OTHERS if kind not in taken), None)

    def bounds(self, schema: Json) -> list[Any]:
        """Values at the limits that the schema states, and beyond them."""
        found: list[Any] = []
        for one in self._choices(schema):
            for keyword, step in (("minimum", -1), ("maximum", 1)):
                if abs(one.get(keyword, 1 << 40)) < 1 << 40:
                    found += [one[keyword], one[keyword] + step]
            if one.get("enum") and all(isinstance(value, str) for value in one["enum"]):
                found.append("nope")
            if one.get("maxItems", 99) < 9:
                found.append([self.valid(one["items"])] * (one["maxItems"] + 1))
            if one.get("minLength"):
                found.append("")
        return found

    def _choices(self, schema: Json) -> list[Json]:
        """The variants that are not null; all of them if there is nothing else."""
        return [one for _, one in self._owned_choices(schema)]

    def _owned_choices(self, schema: Json) -> list[tuple[str, Json]]:
        found = variants(schema, self._definitions)
        return [one for one in found if one[1].get("type") != "null"] or found


def _kinds_of(schema: Json) -> set[str]:
    if "const" in schema or "enum" in schema:
        return {_kind_of(value) for value in schema.get("enum", [schema.get("const")])}
    return {schema.get("type", "object" if "properties" in schema else "any")}


def _kind_of(value: Any) -> str:
    if value is None:
        return "any"
    return {str: "string", bool: "boolean", int: "integer", float: "number", list: "array"}.get(type(value), "object")


def _fits(value: Any, schema: Json) -> bool:
    kind = schema.get("type", "object" if "properties" in schema else "any")
    return kind in ("any", _kind_of(value)) or (kind == "number" and _kind_of(value) == "integer")
