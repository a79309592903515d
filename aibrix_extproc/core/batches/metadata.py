"""A batch's `metadata`: a client's own labels, bounded as OpenAI bounds them."""

import re
from collections.abc import Mapping
from typing import Final

from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.contract.operations import shown
from aibrix_extproc.core.openai.contract.refusals import json_type

MAX_KEYS: Final = 16
MAX_KEY: Final = 64
MAX_VALUE: Final = 512
_SURROGATE: Final = re.compile("[\ud800-\udfff]")  # JSON can write one alone, UTF-8 and databases cannot


def checked_metadata(given: object) -> dict[str, str] | Problem | None:
    """The labels, None if there are none, or the refusal."""
    if given is None:
        return None
    if not isinstance(given, Mapping):
        return _wrong_type("metadata", "an object", given)
    if len(given) > MAX_KEYS:
        return _bad_value("metadata", f"expected at most {MAX_KEYS} keys, but got {len(given)}")
    found: dict[str, str] = {}
    for key, value in given.items():
        param = f"metadata.{shown(key, MAX_KEY)}"
        if len(key) > MAX_KEY:
            return _bad_value(param, f"expected a key of at most {MAX_KEY} characters")
        if not isinstance(value, str):
            return _wrong_type(param, "a string", value)
        if len(value) > MAX_VALUE:
            return _bad_value(param, f"expected a string of at most {MAX_VALUE} characters")
        if _SURROGATE.search(key) or _SURROGATE.search(value):
            return _bad_value("metadata", "a surrogate without its other half is no character")
        found[key] = value
    return found


def _wrong_type(param: str, expected: str, given: object) -> Problem:
    return Problem("invalid_type", {"param": param, "expected": expected, "got": json_type(given)}, param=param)


def _bad_value(param: str, words: str) -> Problem:
    return Problem("invalid_value", {"message": f"Invalid '{param}': {words}."}, param=param)
