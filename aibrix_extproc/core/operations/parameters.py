"""Parameters of engine operations: their types and bounds, and the refusal of a value before any engine is asked."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.contract.operations import shown
from aibrix_extproc.core.openai.contract.refusals import json_type, out_of_range, unsupported

MAX_TEXT: Final = 256
MAX_PATH: Final = 4096
MAX_INT: Final = 2**31 - 1
_TRUE: Final = frozenset({"true", "1", "yes", "on", "t", "y"})  # as FastAPI reads them, whatever their case
_FALSE: Final = frozenset({"false", "0", "no", "off", "f", "n"})
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]*")
_REPOSITORY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")


class Kind(StrEnum):
    """The type of a value."""

    TEXT = "string"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    TEXTS = "array of strings"
    OBJECT = "object"  # as large as a body may be


class Form(StrEnum):
    """The form of a text beyond its length."""

    ANY = "printable"
    NAME = "name of a model"  # letters, digits and ._:/@+-, and no segment that is only dots
    PATH = "path or repository"  # an absolute path without `..`, or ORGANISATION/NAME of Hugging Face


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter of an operation."""

    name: str
    kind: Kind
    meaning: str  # for the reference
    in_query: bool = False  # else in the JSON body
    required: bool = False
    default: str = ""  # vLLM's, as JSON; for the reference
    values: tuple[str, ...] = ()  # of a text or of each text of a list, if there are no others
    lowest: int = 0  # of an integer
    highest: int = MAX_INT
    longest: int = MAX_TEXT  # characters of a text, texts of a list
    form: Form = Form.ANY


def read_query(parameter: Parameter, given: Sequence[str]) -> Any | Problem:
    """The value of a query parameter that was sent at least once."""
    name = parameter.name
    if parameter.kind is Kind.TEXTS:
        return checked(parameter, list(given))
    if len(given) > 1:
        return invalid(name, f"Invalid '{name}': it is given more than once.")
    text = given[0]
    match parameter.kind:
        case Kind.BOOLEAN:
            low = text.lower()
            return unsupported(name, text, ("true", "false")) if low not in _TRUE | _FALSE else low in _TRUE
        case Kind.INTEGER:
            if not re.fullmatch(r"[+-]?[0-9]{1,10}", text):
                return wrong_type(name, "an integer", "a string")
            return checked(parameter, int(text))
        case _:
            return checked(parameter, text)


def checked(parameter: Parameter, value: Any) -> Any | Problem:
    """The value, or why it is refused."""
    name = parameter.name
    match parameter.kind:
        case Kind.TEXT:
            return _text(parameter, value) if isinstance(value, str) else wrong_type(name, "a string", json_type(value))
        case Kind.INTEGER:
            if not isinstance(value, int) or isinstance(value, bool):
                return wrong_type(name, "an integer", json_type(value))
            if not parameter.lowest <= value <= parameter.highest:
                return out_of_range(name, value, parameter.lowest, parameter.highest)
            return value
        case Kind.BOOLEAN:
            return value if isinstance(value, bool) else wrong_type(name, "a boolean", json_type(value))
        case Kind.TEXTS:
            return _texts(parameter, value)
        case Kind.OBJECT:
            return value if isinstance(value, Mapping) else wrong_type(name, "an object", json_type(value))


def _texts(parameter: Parameter, value: Any) -> list[str] | Problem:
    name = parameter.name
    if not isinstance(value, list):
        return wrong_type(name, "an array of strings", json_type(value))
    if len(value) > parameter.longest:
        return invalid(name, f"Invalid '{name}': expected at most {parameter.longest} values, but got {len(value)}.")
    for one in value:
        if not isinstance(one, str):
            return wrong_type(name, "an array of strings", f"an array with {json_type(one)}")
        found = _text(parameter, one, longest=MAX_TEXT)
        if isinstance(found, Problem):
            return found
    return value


def _text(parameter: Parameter, value: str, longest: int | None = None) -> str | Problem:
    name, most = parameter.name, parameter.longest if longest is None else longest
    if parameter.values:
        return value if value in parameter.values else unsupported(name, value, parameter.values)
    if not value:
        return invalid(name, f"Invalid value for '{name}': expected a non-empty string.")
    if len(value) > most:
        return invalid(name, f"Invalid '{name}': expected at most {most} characters, but got {len(value)}.")
    if not value.isprintable():
        return invalid(name, f"Invalid '{name}': it has characters that cannot be printed.")
    match parameter.form:
        case Form.NAME if not _NAME.fullmatch(value) or _has_dots(value):
            rule = "letters, digits and ._:/@+- are allowed, and no segment that is only dots"
            return invalid(name, f"Invalid '{name}': '{shown(value, 64)}' is no name of a model; {rule}.")
        case Form.PATH if not _is_place(value):
            rule = (
                "expected an absolute path without '..' on the engine's machine, or ORGANISATION/NAME of Hugging Face"
            )
            return invalid(name, f"Invalid '{name}': {rule}, but got '{shown(value, 64)}'.")
    return value


def _is_place(value: str) -> bool:
    if value.startswith("/"):
        return not _has_dots(value) and "://" not in value and "\\" not in value
    return _REPOSITORY.fullmatch(value) is not None and not _has_dots(value)


def _has_dots(value: str) -> bool:
    return any(part in (".", "..") for part in value.split("/"))


def wrong_type(name: str, expected: str, got: str) -> Problem:
    """OpenAI's refusal of a value of another type."""
    return Problem("invalid_type", {"param": name, "expected": expected, "got": got}, param=name)


def invalid(name: str, message: str) -> Problem:
    """OpenAI's refusal of a value, in these words."""
    return Problem("invalid_value", {"message": message}, param=name)
