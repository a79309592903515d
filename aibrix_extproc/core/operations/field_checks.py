"""Checks of the fields of records that clients send, in OpenAI's words."""

from collections.abc import Collection, Mapping
from typing import Any

from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.contract.operations import shown
from aibrix_extproc.core.openai.contract.refusals import json_type


def missing(param: str) -> Problem:
    """A field that must be there."""
    return Problem("missing_required_parameter", {"param": param}, param=param)


def wrong_type(param: str, expected: str, value: object) -> Problem:
    """A value of another JSON type. `expected` has its article."""
    return Problem("invalid_type", {"param": param, "expected": expected, "got": json_type(value)}, param=param)


def invalid(param: str, rule: str) -> Problem:
    """A value that breaks a rule; `rule` follows the word "it"."""
    return Problem("invalid_value", {"message": f"Invalid '{param}': it {rule}."}, param=param)


def unknown_field(fields: Mapping[str, Any], known: Collection[str]) -> Problem | None:
    """The refusal of the first field that no record has."""
    name = next((shown(key, 64) for key in fields if key not in known), None)
    return (
        None
        if name is None
        else Problem("unknown_field", {"param": name, "known": ", ".join(sorted(known))}, param=name)
    )


def checked_flag(fields: Mapping[str, Any], name: str) -> Problem | None:
    """A boolean, or nothing."""
    value = fields.get(name)
    return None if value is None or isinstance(value, bool) else wrong_type(name, "a boolean", value)


def checked_number(fields: Mapping[str, Any], name: str, low: int, high: int, *, whole: bool = False) -> Problem | None:
    """A number within bounds, or nothing."""
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        return wrong_type(name, "an integer" if whole else "a number", value)
    return None if low <= value <= high else invalid(name, f"must be from {low} to {high}")


def checked_name(param: str, name: object, longest: int) -> Problem | None:
    """A name that can be shown in one line."""
    if name is None:
        return missing(param)
    if not isinstance(name, str):
        return wrong_type(param, "a string", name)
    if not name or len(name) > longest or not name.isprintable() or name != name.strip():
        return invalid(param, f"must be 1 to {longest} printable characters without spaces around them")
    return None
