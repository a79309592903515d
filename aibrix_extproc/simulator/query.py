"""Parameters of query strings as FastAPI reads them, with its refusals."""

from typing import Final

from aibrix_extproc.simulator.reading import validation_error
from aibrix_extproc.simulator.wire import Call

_TRUE: Final = frozenset({"true", "1", "yes", "on", "t", "y"})
_FALSE: Final = frozenset({"false", "0", "no", "off", "f", "n"})


def boolean(call: Call, name: str, *, default: bool) -> bool:
    """A flag."""
    text = call.query.get(name)
    if text is None:
        return default
    if text.lower() not in _TRUE | _FALSE:
        raise _refusal("bool_parsing", name, "Input should be a valid boolean, unable to interpret input", text)
    return text.lower() in _TRUE


def literal(call: Call, name: str, values: tuple[str, ...]) -> str:
    """One of some words; the first one is the default."""
    text = call.query.get(name, values[0])
    if text not in values:
        expected = expectation(values)
        raise _refusal("literal_error", name, f"Input should be {expected}", text, {"expected": expected})
    return text


def integer(call: Call, name: str, *, default: int, low: int, high: int) -> int:
    """A number within bounds."""
    text = call.query.get(name, str(default))
    try:
        value = int(text)
    except ValueError:
        message = "Input should be a valid integer, unable to parse string as an integer"
        raise _refusal("int_parsing", name, message, text) from None
    if value < low:
        message = f"Input should be greater than or equal to {low}"
        raise _refusal("greater_than_equal", name, message, text, {"ge": low})
    if value > high:
        raise _refusal("less_than_equal", name, f"Input should be less than or equal to {high}", text, {"le": high})
    return value


def expectation(values: tuple[str, ...]) -> str:
    """The words as pydantic lists them."""
    quoted = [f"'{one}'" for one in values]
    return f"{', '.join(quoted[:-1])} or {quoted[-1]}"


def _refusal(kind: str, name: str, message: str, given: str, context: dict[str, object] | None = None) -> Exception:
    error: dict[str, object] = {"type": kind, "loc": ("query", name), "msg": message, "input": given}
    return validation_error([error | ({"ctx": context} if context else {})])
