"""Turns a validation dump (pydantic's or FastAPI's list of refused fields) into one sentence in OpenAI's words.

vLLM forwards such lists as Python text with the whole input repeated in it, often cut short. So they are not
evaluated: type, location and message come before the input in each entry and are picked out; of the input only the
beginning is looked at, to tell its type.
"""

import re
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final

from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.upstream.text import for_client, redacted

_STRING: Final = r"""(?:'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+")"""
_ENTRY: Final = re.compile(
    rf"""\{{'type':\s'(?P<kind>\w+)',\s'loc':\s"""
    rf"""(?:[(\[](?P<loc>(?:{_STRING}|[\d,\s-])*+)[)\]]|'(?P<dotted>[\w.\[\]-]{{1,256}})')"""
    rf"""(?:,\s'msg':\s(?P<msg>{_STRING}))?(?:,\s'input':\s(?=(?P<given>[^\n]{{1,80}})))?""",
    re.DOTALL,
)
_LOC_PART: Final = re.compile(rf"{_STRING}|\d+")
# Where locations are dotted, each refused value is text, and a container only its size.
_SHORTENED: Final = re.compile(
    r"'(?:<(?P<container>dict|list) of \d+ items>|(?P<plain>True|False|None|[-+]?\d[\d.eE+-]*))'"
)
_MODEL_ENTRY: Final = re.compile(
    r"^(?P<loc>[\w.\[\]-]+)\n\s+(?P<msg>[^\n]+?)\s\[type=(?P<kind>\w+)(?:,\sinput_value=(?=(?P<given>[^\n]{1,80})))?",
    re.MULTILINE,
)
_LOOKS_LIKE_DUMP: Final = re.compile(r"\b\d+ validation errors?\b|\{'type': '")
_PREFIX: Final = re.compile(r"^(?:Value error|Assertion failed), ")
_PARAM: Final = re.compile(r"[A-Za-z_][\w.\[\]-]{0,127}")
_MAX_ENTRIES: Final = 32  # of a list or dump; the first one counts, and what else its field may be
_MAX_PARTS: Final = 32  # of a location
_MAX_TEXT: Final = 2048
_PLACES: Final = ("body", "query", "path", "header")

# What pydantic puts between field names for its own bookkeeping: branches of unions, wrappers, model classes.
_BRANCH: Final = re.compile(
    r".*[\[\](){}].*|[A-Z].*|function-.*|json-or-python|lax-or-strict|tagged-union|is-instance"
    r"|str|int|float|bool|bytes|list|dict|tuple|set|none|nullable|union|chain|default|constrained-\w+"
)

_EXPECTED: Final = (
    ("string", "a string"), ("bytes", "a string"), ("int", "an integer"), ("float", "a decimal"),
    ("decimal", "a decimal"), ("finite", "a decimal"), ("bool", "a boolean"), ("list", "an array"),
    ("tuple", "an array"), ("set", "an array"), ("iterable", "an array"), ("dict", "an object"),
    ("mapping", "an object"), ("model", "an object"), ("dataclass", "an object"), ("none", "null"),
)  # fmt: skip
_GIVEN: Final = (
    (re.compile(r"True\b|False\b"), "a boolean"),
    (re.compile(r"None\b"), "null"),
    (re.compile(r"[-+]?\d+(?![\d.eE])"), "an integer"),
    (re.compile(r"[-+]?(?:\d|\.\d|inf\b|nan\b)"), "a decimal"),
    (re.compile(r"b?['\"]"), "a string"),
    (re.compile(r"\["), "an array"),
    (re.compile(r"\{"), "an object"),
)
_INDEX_FIRST: Final = re.compile(r"^\[\d+\]")
_NUMBER: Final = re.compile(r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_WHOLE_STRING: Final = re.compile(r"'([^'\\]{0,64})'")
_BOUNDS: Final = {
    "less_than": ("above maximum value", "<"),
    "less_than_equal": ("above maximum value", "<="),
    "greater_than": ("below minimum value", ">"),
    "greater_than_equal": ("below minimum value", ">="),
}


@dataclass(frozen=True, slots=True)
class RefusedField:
    """One entry of a dump. `given` is the beginning of the refused value as Python text.

    `path` is the location without bookkeeping, also where it names no field: some validators see a part of the body
    only, so that theirs begins with an index. `branch` is what a union's branch is called, and `place` where it is.
    """

    kind: str
    param: str | None
    message: str
    given: str
    path: str = ""
    place: str = ""
    branch: str = ""

    @property
    def is_type_mismatch(self) -> bool:
        """Whether the value is of a type that this branch does not take at all."""
        return _expected(self.kind) is not None


def looks_like_dump(message: str) -> bool:
    """Whether a message is a dump, even one that cannot be read."""
    return _LOOKS_LIKE_DUMP.search(message) is not None


def read_dump(message: str) -> tuple[RefusedField, ...]:
    """The entries of a dump that can be read, in its order."""
    found = [_entry(match) for match in islice(_ENTRY.finditer(message), _MAX_ENTRIES)]
    if not found:
        found = [
            _refused(match["kind"], match["loc"].split("."), match["msg"], match["given"] or "")
            for match in islice(_MODEL_ENTRY.finditer(message), _MAX_ENTRIES)
        ]
    return tuple(found)


def read_list(entries: tuple[Any, ...]) -> tuple[RefusedField, ...]:
    """The entries of FastAPI's own JSON list that have a type and a location."""
    return tuple(
        _refused(entry["type"], _location(entry["loc"]), _text(entry.get("msg")), _beginning(entry))
        for entry in entries[:_MAX_ENTRIES]
        if isinstance(entry, dict) and isinstance(entry.get("type"), str) and isinstance(entry.get("loc"), list)
    )


def _location(loc: list[Any]) -> list[str]:
    return [str(part)[:_MAX_TEXT] for part in loc[:_MAX_PARTS] if isinstance(part, str | int)]


def _text(value: Any) -> str:
    return value[:_MAX_TEXT] if isinstance(value, str) else ""


def _beginning(entry: dict[str, Any]) -> str:
    """The beginning of the refused value as Python text; of containers, which may be deep, only the bracket."""
    if "input" not in entry:
        return ""
    value = entry["input"]
    return "[" if isinstance(value, list) else "{" if isinstance(value, dict) else repr(value)[:80]


def joined(parts: list[str]) -> str | None:
    """A location as OpenAI writes it (`messages[0].role`), or None if it names no field."""
    path = _path(parts)
    return path if _PARAM.fullmatch(path) else None


def _path(parts: list[str]) -> str:
    path = ""
    for part in parts:
        if part.isdigit():
            path += f"[{part}]"
        elif not _BRANCH.fullmatch(part) and (path or part not in _PLACES):
            path += f".{part}" if path else part
    return path


def _refused(kind: str, parts: list[str], message: str, given: str) -> RefusedField:
    at = next((number for number, part in enumerate(parts) if part[:1].isupper()), len(parts))
    branch = parts[at] if at < len(parts) else ""
    place = _path(parts[:at]) if branch else ""
    return RefusedField(kind, joined(parts), message, given, path=_path(parts), place=place, branch=branch)


def own_words(refused: RefusedField) -> str | None:
    """The message that the engine's own code gave for a field, if it did rather than the schema."""
    return _PREFIX.sub("", refused.message) if refused.kind in ("value_error", "assertion_error") else None


def problem_from_fields(entries: tuple[RefusedField, ...], prompt_param: str | None) -> Problem:
    """One problem for a list of refused fields: the first one counts.

    `prompt_param` is named where the location begins in the middle of something, which only prompts are.
    """
    first = entries[0]
    if first.kind == "json_invalid" or not first.path:
        return Problem("malformed_json")
    param = first.param or prompt_param
    entries = tuple(_placed(entry, prompt_param) for entry in entries)
    first = entries[0]
    if first.kind == "missing":
        return Problem("missing_required_parameter", {"param": first.path}, param=param)
    if first.kind == "extra_forbidden":
        return Problem("unknown_parameter", {"param": first.path}, param=param)
    if first.is_type_mismatch:
        return _wrong_type(param, entries)
    length = _wrong_length(first)
    if length is not None:
        return Problem("invalid_value", {"message": length[0]}, param=param, code=length[1])
    return Problem("invalid_value", {"message": _invalid_value(first)}, param=param)


def _placed(refused: RefusedField, prompt_param: str | None) -> RefusedField:
    """The entry with a path that begins with a field: in some element of the prompt, if it begins with an index."""
    within = _INDEX_FIRST.sub("[]", refused.path)
    return refused if within == refused.path else replace(refused, path=f"{prompt_param or 'input'}{within}")


def _entry(match: re.Match[str]) -> RefusedField:
    message, given, dotted = match["msg"] or "", match["given"] or "", match["dotted"]
    if dotted is not None:
        return _refused(match["kind"], dotted.split("."), _literal(message), _meant(match["kind"], given))
    location = [part.strip("'\"") for part in _LOC_PART.findall(match["loc"])]
    return _refused(match["kind"], location, _literal(message), given)


def _meant(kind: str, given: str) -> str:
    """The beginning of the value that was made text; only strings are ever parsed."""
    found = _SHORTENED.match(given)
    if found is None or kind.endswith("_parsing"):
        return given
    return {"dict": "{", "list": "["}.get(found["container"], found["plain"])


def _literal(quoted: str) -> str:
    return re.sub(r"\\(.)", lambda escape: {"n": " ", "t": " ", "r": " "}.get(escape[1], escape[1]), quoted[1:-1])


def _expected(kind: str) -> str | None:
    if not kind.endswith(("_type", "_parsing", "_parsing_size", "_from_float", "_required", "_number")):
        return None
    return next((noun for prefix, noun in _EXPECTED if kind.startswith(prefix)), None)


def _wrong_type(param: str | None, entries: tuple[RefusedField, ...]) -> Problem:
    # A union gives an entry per branch, with the same location.
    branches = [_expected(entry.kind) for entry in entries if entry.path == entries[0].path]
    expected = " or ".join(dict.fromkeys(noun for noun in branches if noun is not None))
    given = entries[0].given
    got = next((noun for pattern, noun in _GIVEN if pattern.match(given)), "another type")
    return Problem("invalid_type", {"param": entries[0].path, "expected": expected, "got": got}, param=param)


def _wrong_length(refused: RefusedField) -> tuple[str, str] | None:
    """OpenAI's words and code for an array or a text that is too long or too short."""
    kind = refused.kind.removeprefix("string_")
    if kind not in ("too_long", "too_short"):
        return None
    noun = "string" if refused.kind.startswith("string_") else "array"
    bound, word = ("maximum", "above_max") if kind == "too_long" else ("minimum", "below_min")
    numbers = _NUMBER.findall(refused.message)
    text = f"Invalid '{refused.path}': {noun} {kind.replace('_', ' ')}."
    if numbers:
        article = "an array" if noun == "array" else "a string"
        got = f", but got {article} with length {numbers[1]} instead" if len(numbers) > 1 else ""
        text = f"{text} Expected {article} with {bound} length {numbers[0]}{got}."
    return text, f"{noun}_{word}_length"


def _invalid_value(refused: RefusedField) -> str:
    if refused.kind in _BOUNDS:
        return _out_of_range(refused)
    said = for_client(refused.message).removeprefix("Input should be ").rstrip(".")
    if refused.kind in ("literal_error", "enum") and said:
        given = _WHOLE_STRING.match(refused.given)
        named = f"Invalid value: '{redacted(given[1])}'." if given else f"Invalid value for '{refused.path}'."
        return f"{named} Supported values are: {said}."
    return f"Invalid '{refused.path}': {said[:1].lower()}{said[1:]}." if said else f"Invalid '{refused.path}'."


def _out_of_range(refused: RefusedField) -> str:
    words, sign = _BOUNDS[refused.kind]
    limit = _NUMBER.search(refused.message)
    given = _NUMBER.match(refused.given)
    if limit is None:
        return f"Invalid '{refused.path}': {words}."
    number = "decimal" if (given and "." in given[0]) or "." in limit[0] else "integer"
    got = f", but got {given[0]} instead" if given else ""
    return f"Invalid '{refused.path}': {number} {words}. Expected a value {sign} {limit[0]}{got}."
