"""Schemas of operations, put together from their sources.

A request has the fields of the SDK's type, and those that vLLM has beside them; `x-vllm` says which versions of vLLM
know a field, `x-measured` what the newest one did with it, by operation, and `default` is vLLM's. Definitions are named
after their source: `openai.ChatCompletion`.
"""

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final

from aibrix_extproc.interfaces.fields import fields_of
from aibrix_extproc.interfaces.verdicts import STORED, verdicts

Json = dict[str, Any]

PLACES: Final = ("request", "query", "answer", "events")
SDKS: Final = ("openai", "anthropic")
VLLM_VERSIONS: Final = ("0.32", "0.33")
_NEWEST: Final = f"vllm-{VLLM_VERSIONS[-1]}"
_REFERENCE: Final = "#/$defs/"
# The SDK has one type for a completion and for the events of its stream, of which only the last has a reason.
_NULL_TOO: Final = (("openai.CompletionChoice", "finish_reason"),)


@dataclass(frozen=True, slots=True)
class Interface:
    """What one operation takes and gives; None where it has nothing there, or where no source says it."""

    request: Json | None = None
    query: Json | None = None
    answer: Json | None = None
    events: Json | None = None  # one event of a stream


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All interfaces by operation id, with the definitions that they refer to by `#/$defs/NAME`."""

    interfaces: Mapping[str, Interface]
    definitions: Mapping[str, Json]
    sources: Sequence[str]  # names and versions of what it was derived from

    def whole(self, schema: Json) -> Json:
        """The schema with the definitions that it needs, to stand alone."""
        names = self._reached(schema)
        return {**schema, "$defs": {name: self.definitions[name] for name in sorted(names)}} if names else schema

    def _reached(self, schema: Json) -> set[str]:
        found: set[str] = set()
        waiting = [schema]
        while waiting:
            for name in set(references(waiting.pop())) - found:
                found.add(name)
                waiting.append(self.definitions[name])
        return found


def references(schema: object) -> Iterator[str]:
    """Names of the definitions that a schema refers to by itself."""
    if isinstance(schema, Mapping):
        for key, value in schema.items():
            if key == "$ref" and isinstance(value, str):
                yield value.removeprefix(_REFERENCE)
            else:
                yield from references(value)
    elif isinstance(schema, list):
        for one in schema:
            yield from references(one)


@cache
def catalogue() -> Catalogue:
    """The catalogue of this version, read once."""
    documents = {name: _document(name) for name in (*SDKS, *(f"vllm-{version}" for version in VLLM_VERSIONS))}
    meanings = tomllib.loads((files(__package__) / "descriptions.toml").read_text("utf-8"))
    definitions: Json = {}
    for name in (*SDKS, _NEWEST):
        for definition, schema in documents[name]["$defs"].items():
            schema.get("properties", {}).update(meanings["schemas"].get(definition, {}))
            made = _described(_renamed(schema, _prefix(name)), meanings["definitions"].get(definition, {}), meanings)
            _require_less(definition, made)
            definitions[f"{_prefix(name)}.{definition}"] = made
    for definition, name in _NULL_TOO:
        described = definitions[definition]["properties"][name]
        meaning = described.pop("description")
        definitions[definition]["properties"][name] = {"anyOf": [described, {"type": "null"}], "description": meaning}
    operations = sorted({operation for document in documents.values() for operation in document["operations"]})
    interfaces = {
        operation: Interface(**{
            place: _joined(operation, place, documents, definitions, meanings) for place in PLACES
        })
        for operation in operations
    }  # fmt: skip
    _tell_measured(interfaces, definitions)
    return Catalogue(interfaces, definitions, tuple(document["source"] for document in documents.values()))


def _require_less(name: str, schema: Json) -> None:
    """Let a request leave out what may be null: SDKs demand it of typed programs alone."""
    if name.endswith("Param") and "required" in schema:
        properties = schema["properties"]
        schema["required"] = [
            one for one in schema["required"] if {"type": "null"} not in properties[one].get("anyOf", ())
        ]


def _tell_measured(interfaces: Mapping[str, Interface], definitions: Mapping[str, Json]) -> None:
    """Write the verdict on each field of a request into its schema, which operations share."""
    for operation, places in (*verdicts().items(), *verdicts(STORED).items()):
        interface = interfaces[operation]
        for place, schema in (("request", interface.request), ("query", interface.query)):
            for field in fields_of(schema or {}, definitions):
                found = places.get(place, {}).get(field.path)
                if found is not None:
                    field.schema.setdefault("x-measured", {})[operation] = found["verdict"]


@cache
def deprecations() -> Mapping[str, Mapping[str, str]]:
    """Operation -> field of its request -> the field to use instead."""
    return tomllib.loads((files(__package__) / "deprecations.toml").read_text("utf-8"))


def _document(name: str) -> Json:
    found: Json = json.loads((files(__package__) / "schemas" / f"{name}.json").read_text("utf-8"))
    return found


def _prefix(name: str) -> str:
    return name.partition("-")[0]


def _joined(
    operation: str, place: str, documents: Mapping[str, Json], definitions: Json, meanings: Json
) -> Json | None:
    """The schema of an SDK with what vLLM adds; vLLM's where no SDK has the operation."""
    sdk = next((name for name in SDKS if operation in documents[name]["operations"]), None)
    own = None if sdk is None else documents[sdk]["operations"][operation].get(place)
    engine = documents[_NEWEST]["operations"].get(operation, {}).get(place)
    if sdk is None or own is None:
        if engine is None or sdk is not None:
            return None
        made: Json = _described(_renamed(engine, _prefix(_NEWEST)), {}, meanings)
        return made
    schema: Json = _renamed(own, sdk)
    if engine is None or set(schema) != {"$ref"}:
        return schema
    name = schema["$ref"].removeprefix(_REFERENCE)
    if place == "request" or "properties" in engine:
        variants = list(_variants(engine, documents[_NEWEST]["$defs"]))
        _extend(definitions[name], variants, _knowing(operation, place, documents), meanings)
    return schema


def _knowing(operation: str, place: str, documents: Mapping[str, Json]) -> Mapping[str, list[str]]:
    """Field -> the versions of vLLM that know it."""
    found: dict[str, list[str]] = {}
    for version in VLLM_VERSIONS:
        document = documents[f"vllm-{version}"]
        schema = document["operations"].get(operation, {}).get(place, {})
        for field in {name for one in _variants(schema, document["$defs"]) for name in one.get("properties", {})}:
            found.setdefault(field, []).append(version)
    return found


def _variants(schema: Json, definitions: Json) -> Iterator[Json]:
    """The objects of which a schema is one."""
    if "$ref" in schema:
        yield from _variants(definitions[schema["$ref"].removeprefix(_REFERENCE)], definitions)
    for one in schema.get("anyOf", ()):
        yield from _variants(one, definitions)
    if "properties" in schema:
        yield schema


def _extend(schema: Json, variants: Sequence[Json], knowing: Mapping[str, list[str]], meanings: Json) -> None:
    """Give an SDK's object vLLM's own fields and defaults, and say which versions know each field.

    A field that one of vLLM's forms of the request does not have, such as `input` beside `messages`, is not required;
    what each form requires is, of one of them. That stands in an `allOf`, since an `anyOf` has the fields of variants.
    """
    properties = schema.setdefault("properties", {})
    elsewhere = {
        name for one in variants for other in variants for name in one["properties"] if name not in other["properties"]
    }
    if elsewhere & set(schema.get("required", ())):
        forms = [{"required": sorted(elsewhere & set(one.get("required", ())))} for one in variants]
        schema["allOf"] = [{"anyOf": forms}]
    schema["required"] = [name for name in schema.get("required", ()) if name not in elsewhere]
    for variant in variants:
        for name, value in variant.get("properties", {}).items():
            if name in properties:
                if "default" in value and "default" not in properties[name]:
                    properties[name]["default"] = value["default"]
                continue
            added = _renamed(value, _prefix(_NEWEST))
            properties[name] = {**added, "description": meanings["names"][name], "x-origin": "vllm"}
    for name, value in properties.items():
        value["x-vllm"] = knowing.get(name, [])


def _renamed(schema: Any, prefix: str) -> Any:
    """The schema with its references to definitions of this source."""
    if isinstance(schema, Mapping):
        return {key: _renamed(value, prefix) for key, value in schema.items()}
    if isinstance(schema, list):
        return [_renamed(one, prefix) for one in schema]
    if isinstance(schema, str) and schema.startswith(_REFERENCE):  # also in the mapping of a discriminator
        return f"{_REFERENCE}{prefix}.{schema.removeprefix(_REFERENCE)}"
    return schema


def _described(schema: Json, own: Mapping[str, str], meanings: Json) -> Json:
    """The object with a description of each field; `own` are those of this definition alone."""
    for one in (schema, *schema.get("anyOf", ())):
        for name, value in one.get("properties", {}).items():
            value["description"] = own.get(name, meanings["names"][name])
    return schema
