"""Leaves of a JSON Schema what is a fact of the interface."""

import re
from collections.abc import Mapping
from typing import Any, Final

# Sentences of their authors, and words of the generator.
_DROPPED: Final = frozenset({"title", "description", "example", "examples", "$comment", "deprecated"})
_NAMED: Final = frozenset({"properties", "$defs", "operations", "mapping"})  # whose members are names, not keywords
_MODULES: Final = re.compile(r"^(?:openai|anthropic)__types__|^tools__schemas__sdk_types__")


def tidied(document: Any) -> Any:
    """The document without sentences, with short names of definitions and sorted sets."""
    return _value(document, names=False)


def _value(found: Any, *, names: bool) -> Any:
    if isinstance(found, Mapping):
        return _mapping(found, names=names)
    if isinstance(found, list):
        return [_value(one, names=False) for one in found]
    return found


def _mapping(found: Mapping[str, Any], *, names: bool) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in found.items():
        if not names and (key in _DROPPED or (key == "default" and value is None)):
            continue
        if not names and key == "additionalProperties" and value is True:
            continue
        if key == "$ref" and isinstance(value, str):
            head, _, name = value.rpartition("/")
            made[key] = f"{head}/{short_name(name)}"
        elif key in {"required", "enum"} and not names and isinstance(value, list):
            made[key] = sorted(value, key=str) if key == "required" else value
        else:
            kept = short_name(key) if names and _MODULES.match(key) else key
            made[kept] = _value(value, names=not names and key in _NAMED)
    return made


def short_name(name: str) -> str:
    """The name of a definition without the modules that every name has."""
    return _MODULES.sub("", name)
