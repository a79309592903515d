"""Refusals of a value, in OpenAI's words, for what the gateway validates by itself."""

from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.contract.operations import shown


def unsupported(param: str, given: str, supported: tuple[str, ...]) -> Problem:
    """OpenAI's refusal of a value outside of an enumeration."""
    quoted = [f"'{one}'" for one in supported]
    choice = quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])}, and {quoted[-1]}"
    message = f"Invalid value: '{shown(given, 64)}'. Supported values are: {choice}."
    return Problem("invalid_value", {"message": message}, param=param)


def out_of_range(param: str, given: int, low: int, high: int) -> Problem:
    """OpenAI's refusal of an integer outside of its range."""
    below = given < low
    bound = f"a value >= {low}" if below else f"a value <= {high}"
    message = (
        f"Invalid '{param}': integer {'below minimum' if below else 'above maximum'} value. "
        f"Expected {bound}, but got {shown(str(given), 32)} instead."
    )
    code = "integer_below_min_value" if below else "integer_above_max_value"
    return Problem("invalid_value", {"message": message}, param=param, code=code)


def json_type(value: object) -> str:
    """The JSON type of a decoded value, with its article, as OpenAI's errors name it."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"
