"""Python's own exceptions in an engine's mouth: a field of the wrong type that reached code which did not expect it.

Their texts speak of the engine's source, so none of them is passed on. Where a text tells which type was found and
which one the code wanted, the client learns that.
"""

import re
from typing import Final

from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.upstream.text import is_python

_WANTED_ARRAY: Final = re.compile(
    r"'(?P<iterated>\w+)' object is not (?:iterable|subscriptable|reversible)"
    r"|object of type '(?P<measured>\w+)' has no len"
    r"|argument of type '(?P<searched>\w+)' is not|cannot unpack non-iterable (?P<unpacked>\w+)"
)
_BROKEN_TEXT: Final = re.compile(r"TextEncodeInput|codec can't encode|surrogates not allowed")
_BROKEN_JSON: Final = re.compile(r"^(?:Expecting |Unterminated string|Extra data|Invalid control character|Invalid \\)")
_TYPES: Final = {
    "int": "an integer", "float": "a decimal", "bool": "a boolean", "str": "a string", "list": "an array",
    "tuple": "an array", "dict": "an object", "NoneType": "null",
}  # fmt: skip


def problem_of_exception(message: str, param: str | None, prompt_param: str | None) -> Problem | None:
    """The refusal that a Python exception stands for; None for a text that is none."""
    if not is_python(message):
        return None
    if _BROKEN_TEXT.search(message):
        named = param or prompt_param
        where = f"Invalid '{named}'" if named else "Invalid value"
        return Problem("invalid_value", {"message": f"{where}: a text is not valid Unicode."}, param=named)
    if _BROKEN_JSON.search(message):
        where = f"Invalid '{param}'" if param else "Invalid value"
        return Problem("invalid_value", {"message": f"{where}: a text is not valid JSON."}, param=param)
    # A chat's messages are the one field that such code walks through before it is checked.
    named = param or (prompt_param if prompt_param == "messages" else None)
    where = f"in '{named}'" if named else "of a field"
    found = _WANTED_ARRAY.search(message)
    got = _TYPES.get(next(name for name in found.groups() if name)) if found else None
    if got is None:
        return Problem("invalid_value", {"message": f"Invalid value {where}."}, param=named)
    text = f"Invalid type {where}: expected an array, but got {got} instead."
    return Problem("invalid_value", {"message": text}, param=named, code="invalid_type")
