"""Errors of values, in an operator's words in place of the library's."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from aibrix_extproc.core.nearest import did_you_mean

# kind of error, as pydantic names it -> what is wrong, in an operator's words
_SENTENCES: Final = {
    "value_error": "{error}",  # said by a validator of ours
    "extra_forbidden": "there is no such setting (see `aibrix-extproc config --help`)",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "must be a whole number of fewer digits",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "finite_number": "must be a number that is not infinite",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "string_pattern_mismatch": "must be of the form {pattern}",
    "path_type": "must be a path",
    "tuple_type": "must be a list",
    "enum": "must be {expected}",
    "greater_than": "must be more than {gt:.15g}",
    "greater_than_equal": "must be at least {ge:.15g}",
    "less_than": "must be less than {lt:.15g}",
    "less_than_equal": "must be at most {le:.15g}",
    "string_too_short": "must not be empty",  # no setting asks for more than one character
    "too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "too_long": "must have at most {max_length} characters",
}


def describe(
    place: tuple[int | str, ...],
    kind: str,
    message: str,
    bounds: dict[str, Any],
    known: Mapping[str, Iterable[str]],
    origin: str,
) -> str:
    """One line: the setting, what gave the value, which of several values, and what is wrong with it.

    `known` are the settings of each group. `origin` is a file, a variable or an option; empty where there is none.
    """
    names = ".".join(str(part) for part in place[:2]) + (f" ({origin})" if origin else "")
    which = f"value {place[2] + 1} " if len(place) > 2 and isinstance(place[2], int) else ""
    if kind == "extra_forbidden":
        return f"{names}: {_SENTENCES[kind]}{_nearest_setting(place, known)}"
    return f"{names}: {which}{_SENTENCES[kind].format_map(bounds) if kind in _SENTENCES else message}"


def _nearest_setting(place: tuple[int | str, ...], known: Mapping[str, Iterable[str]]) -> str:
    group = str(place[0])
    if len(place) < 2:
        return did_you_mean(group, known)
    return did_you_mean(f"{group}.{place[1]}", [f"{group}.{name}" for name in known.get(group, ())])
