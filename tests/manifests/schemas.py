"""Is an object what its kind's schema allows? Strict: a field that the schema does not name is an error."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from jsonschema import Draft202012Validator

FOLDER: Final = Path(__file__).with_name("schemas")
OLDEST: Final = ("envoy-gateway-oldest", "gateway-api-oldest")
NEWEST: Final = ("envoy-gateway", "gateway-api")
ALWAYS: Final = ("kubernetes", "inference-extension", "prometheus-operator")


@cache
def _document(name: str) -> Mapping[str, Any]:
    document: Mapping[str, Any] = json.loads((FOLDER / f"{name}.json").read_bytes())
    return document


@cache
def _validators(sets: Sequence[str]) -> Mapping[str, Draft202012Validator]:
    return {
        key: Draft202012Validator({**schema, "$defs": _document(name)["$defs"]})
        for name in sets
        for key, schema in _document(name)["kinds"].items()
    }


def mistakes(thing: Mapping[str, Any], sets: Sequence[str] = (*NEWEST, *ALWAYS)) -> list[str]:
    """One line for each, with its place; a kind without a schema is a mistake too."""
    kind = f"{thing.get('apiVersion')}/{thing.get('kind')}"
    validator = _validators(tuple(sets)).get(kind)
    if validator is None:
        return [f"{kind}: no schema here; add it in vendor.py"]
    name = thing.get("metadata", {}).get("name")
    return [f"{kind} {name}{error.json_path[1:]}: {error.message[:200]}" for error in validator.iter_errors(thing)]
