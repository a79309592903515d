"""The schemas of docs/openapi.json: from the catalogue of interfaces to the leaves, else from the rows of fields."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from aibrix_extproc.cli.reference_docs import DOCS
from aibrix_extproc.core.openai.contract.operation_rows import OPERATIONS
from aibrix_extproc.core.openai.contract.operations import Operation
from aibrix_extproc.core.openai.reference.operation_docs import BYTES, Field, OperationDoc
from aibrix_extproc.interfaces.catalogue import Interface, catalogue, deprecations, references

Json = dict[str, Any]

_COMPONENT: Final = "#/components/schemas/"
_DEFINITION: Final = "#/$defs/"
_NOTHING: Final = Interface()


def interface_of(row: Operation) -> Interface:
    """Its interface, or that of the operation that is the same but for its path."""
    doc, known = DOCS[row.id], catalogue().interfaces
    if row.id in known:
        return known[row.id]
    same = (other.id for other in OPERATIONS if other.id in known and _alike(DOCS.get(other.id), doc))
    return known.get(next(same, ""), _NOTHING)


def _alike(one: OperationDoc | None, other: OperationDoc) -> bool:
    return one is not None and (one.request, one.answer, one.summary) == (other.request, other.answer, other.summary)


class Schemas:
    """Schemas by name. Operations with the same fields share one, named after the first."""

    def __init__(self) -> None:
        self.found: Json = {}
        self._names: dict[tuple[Field, ...], str] = {}

    def request(self, row: Operation, fields: tuple[Field, ...]) -> Json:
        """The schema of a body or form."""
        made = self._interface(interface_of(row).request, fields, f"{camel(row.id)}Request")
        for variant in self._objects(made):
            for name in deprecations().get(row.id, ()):
                variant["properties"][name]["deprecated"] = True
            for name in [one for one in variant["properties"] if f"{one}[]" in variant["properties"]]:
                del variant["properties"][name]  # an SDK's name of a form's field, which it sends with brackets
        return made

    def answer(self, row: Operation, fields: tuple[Field, ...]) -> Json:
        """The schema of a whole answer."""
        return self._interface(interface_of(row).answer, fields, f"{camel(row.id)}Answer")

    def event(self, row: Operation) -> Json | None:
        """The schema of one event of a stream, if it is known."""
        schema = interface_of(row).events
        return None if schema is None else self._taken(schema)

    def query(self, row: Operation) -> Mapping[str, Json]:
        """The schemas of parameters of the query, by name."""
        schema = interface_of(row).query
        if schema is None:
            return {}
        found: Json = catalogue().definitions[schema["$ref"].removeprefix(_DEFINITION)]["properties"]
        return {name: self._taken(value) for name, value in found.items()}

    def _interface(self, schema: Json | None, fields: tuple[Field, ...], name: str) -> Json:
        if schema is None:
            return self._of_fields(fields, name)
        taken = self._taken(schema)
        forms = self._objects(taken)
        known = {name for form in forms for name in form["properties"]}
        for form in forms:
            _explain(form, [one for one in fields if one.name in form["properties"] or one.name not in known])
        return taken

    def _of_fields(self, fields: tuple[Field, ...], name: str) -> Json:
        known = self._names.setdefault(fields, name)
        if known == name:
            self.found[name] = _object(fields)
        return {"$ref": f"{_COMPONENT}{known}"}

    def _taken(self, schema: Json) -> Json:
        """The schema with references to components, which are added with all that they refer to."""
        for name in sorted(set(references(schema))):  # the document has one order
            if name not in self.found:
                self.found[name] = {}  # it may refer to itself
                self.found[name] = self._taken(catalogue().definitions[name])
        made: Json = json.loads(json.dumps(schema).replace(f'"{_DEFINITION}', f'"{_COMPONENT}'))
        return made

    def _objects(self, schema: Json) -> list[Json]:
        if "$ref" in schema:
            return self._objects(self.found[schema["$ref"].removeprefix(_COMPONENT)])
        if "anyOf" in schema:
            return [found for one in schema["anyOf"] for found in self._objects(one)]
        return [schema] if "properties" in schema else []


def _explain(schema: Json, fields: Sequence[Field]) -> None:
    """Adds the rows' meanings to a schema. They are about this gateway, so they replace those of the catalogue."""
    for one in fields:
        known = schema["properties"].setdefault(one.name, value_of(one))
        known["description"] = one.meaning
        if "enum" in known:  # values that an SDK does not know in this place
            known["enum"].extend(value for value in one.values if value not in known["enum"])
        if one.required and one.name not in schema.setdefault("required", []):
            schema["required"].append(one.name)


def _object(fields: Sequence[Field]) -> Json:
    made: Json = {"type": "object", "properties": {one.name: value_of(one) for one in fields}}
    required = [one.name for one in fields if one.required]
    return made | ({"required": required} if required else {}) | {"additionalProperties": True}


def value_of(one: Field) -> Json:
    """The schema of a field of a row."""
    if one.kind == "file":
        return {"type": "string", "contentMediaType": BYTES, "description": one.meaning}
    kinds = list(one.kinds)
    made: Json = {"type": kinds[0] if len(kinds) == 1 else kinds, "description": one.meaning}
    if one.values:
        made["enum"] = [*one.values, None] if "null" in kinds else list(one.values)
    if one.default:
        made["default"] = json.loads(one.default)
    return made


def camel(identifier: str) -> str:
    """The name of a component after an operation."""
    return "".join(part.capitalize() for part in identifier.split("_"))
