"""Names the field that tells the variants of a union apart."""

from collections.abc import Mapping
from typing import Any, Final

_REFERENCE: Final = "#/$defs/"
_TELLING: Final = ("type", "role", "object")  # in this order


def discriminated(document: dict[str, Any]) -> dict[str, Any]:
    """The document with a `discriminator` at each union of objects that have a constant of their own."""
    _walk(document, document["$defs"])
    return document


def _walk(found: Any, definitions: Mapping[str, Any]) -> None:
    if isinstance(found, dict):
        variants = found.get("anyOf")
        if isinstance(variants, list) and len(variants) > 1 and "discriminator" not in found:
            made = _discriminator(variants, definitions)
            if made is not None:
                found["discriminator"] = made
        for value in found.values():
            _walk(value, definitions)
    elif isinstance(found, list):
        for one in found:
            _walk(one, definitions)


def _discriminator(variants: list[Any], definitions: Mapping[str, Any]) -> dict[str, Any] | None:
    references = [one["$ref"] for one in variants if "$ref" in one]
    if len(references) != len(variants):
        return None
    objects = [definitions[one.removeprefix(_REFERENCE)] for one in references]
    for field in _TELLING:
        constants = [_constant(one, field) for one in objects]
        if None not in constants and len(set(constants)) == len(constants):
            return {"propertyName": field, "mapping": dict(zip(map(str, constants), references, strict=True))}
    return None


def _constant(found: Mapping[str, Any], field: str) -> object | None:
    value = found.get("properties", {}).get(field, {})
    return value.get("const") if field in found.get("required", ()) else None
