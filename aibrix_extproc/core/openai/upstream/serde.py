"""The refusals of vLLM's Rust frontend in OpenAI's words.

serde writes `PATH: invalid type: string "hot", expected f32 at line 1 column 79`, its validators write
`PATH: Validation error: range [{"min": Number(0.0), ...}]`, in no fixed order. Both name the field; what follows is
told by its kind, never in Rust's own words for types.
"""

import re
from typing import Final

from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.upstream.text import for_client, redacted

_FRAME: Final = re.compile(
    r"^(?:Failed to deserialize the JSON body into the target type|invalid (?P<member>structured_outputs)): "
    r"(?P<said>.{1,4096}?)(?: at line \d+ column \d+)?$",
    re.DOTALL,
)
_UNREADABLE: Final = re.compile(r"^Failed to parse the request body as JSON\b")
# The same frame around what is JSON: a word is wanted and something else given, a number or a depth is too large.
_UNREAD: Final = re.compile(
    r"^Failed to parse the request body as JSON: (?P<path>[A-Za-z_][\w.-]{0,127})\S{0,1024}: "
    r"(?P<said>expected value|number out of range|recursion limit exceeded)\b"
)
_TOO_DEEP: Final = "recursion limit exceeded"
_UNREAD_WORDS: Final = {
    "expected value": "Invalid value for '{param}'.", "number out of range": "Invalid '{param}': number out of range.",
    _TOO_DEEP: "Invalid '{param}': it is nested too deeply.",
}  # fmt: skip
_PATH: Final = re.compile(
    r"(?P<path>[A-Za-z_][\w.-]{0,127}(?:\[\d+\][\w.-]{0,127})*|\[\d+\]\S{0,256}): (?P<rest>.*)", re.DOTALL
)
_VALIDATED: Final = re.compile(
    r"^(?P<path>[A-Za-z_][\w.\[\]-]{0,127}): Validation error: (?P<said>[^\[]{0,512})(?P<facts>\[\{.{0,2048})?",
    re.DOTALL,
)
_FACT: Final = re.compile(r'"(?P<name>min|max|value)": Number\((?P<number>-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)\)')
_FOR_ALL: Final = re.compile(r"^__all__: (?P<said>(?P<param>\w{1,64})\b.*)", re.DOTALL)

_MISSING: Final = re.compile(r"^missing field `(?P<name>[\w.-]{1,128})`")
_TWICE: Final = re.compile(r"^duplicate field `(?P<name>[\w.-]{1,128})`")
_UNKNOWN: Final = re.compile(r"^unknown field `(?P<name>[\w.-]{1,128})`")
_VARIANT: Final = re.compile(
    r"^unknown variant `(?P<given>[^`]{0,256})`, expected (?:one of )?(?P<known>.*)", re.DOTALL
)
_TYPE: Final = re.compile(r"^invalid type: (?P<given>.{1,512}?), expected (?P<wanted>.*)", re.DOTALL)
_VALUE: Final = re.compile(
    r"^invalid value: (?:integer|floating point) `(?P<given>-?[\d.e+-]{1,64})`, expected (?P<wanted>\w+)"
)
_UNTAGGED: Final = re.compile(r"^data did not match any variant of untagged enum (?P<name>\w+)")
_QUOTED: Final = re.compile(r"`([^`]{1,64})`")

_GIVEN: Final = (
    ("string", "a string"), ("character", "a string"), ("integer", "an integer"), ("floating point", "a decimal"),
    ("boolean", "a boolean"), ("null", "null"), ("unit", "null"), ("map", "an object"), ("struct", "an object"),
    ("sequence", "an array"), ("tuple", "an array"),
)  # fmt: skip
_WANTED: Final = (
    (re.compile(r"f\d+"), "a decimal"),
    (re.compile(r"[iu](?:\d+|size)\b"), "an integer"),
    (re.compile(r"a (?:borrowed )?(?:string|character)|variant identifier|identifier"), "a string"),
    (re.compile(r"a boolean"), "a boolean"),
    (re.compile(r"a (?:sequence|tuple|set)|tuple|an array"), "an array"),
    (re.compile(r"a map|struct|(?:internally|adjacently|externally) tagged enum|enum"), "an object"),
)
# What the untagged enums of the frontend stand for, and the field behind the path if it is not the path itself.
_ENUMS: Final = {
    "StringOrArray": ("", "a string or an array of strings"),
    "Prompt": ("", "a string or an array of token ids"),
    "MessageContent": (".content", "a string or an array of content parts"),
    "ToolChoice": ("", "'none', 'auto', 'required' or an object that names a function"),
}


def problem_of_serde(message: str) -> Problem | None:
    """The refusal that a message of the Rust frontend stands for; None for a text that is none of its own."""
    unread = _UNREAD.match(message)
    if unread is not None:
        said = unread["said"]
        param = unread["path"].partition(".")[0] if said == _TOO_DEEP else unread["path"]
        return _invalid(param, _UNREAD_WORDS[said].replace("{param}", param))
    if _UNREADABLE.match(message):
        return Problem("malformed_json")
    framed = _FRAME.match(message)
    if framed is not None:
        found = _PATH.fullmatch(framed["said"])
        path, said = (found["path"], found["rest"]) if found else ("", framed["said"])
        return _refusal(_joined(framed["member"] or "", path), said)
    validated = _VALIDATED.match(message)
    if validated is not None:
        return _out_of_bounds(validated["path"], validated["said"].strip(), validated["facts"] or "")
    for_all = _FOR_ALL.match(message)
    if for_all is not None:
        return _invalid(for_all["param"], for_client(for_all["said"]))
    return None


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name and not name.startswith("[") else path + name


def _refusal(path: str, said: str) -> Problem:
    said = said.removeprefix("invalid structured outputs params: ")
    if path.startswith("["):
        return Problem("malformed_json")  # the body is an array
    if (missing := _MISSING.match(said)) is not None:
        param = _joined(path, missing["name"])
        return Problem("missing_required_parameter", {"param": param}, param=param)
    if (unknown := _UNKNOWN.match(said)) is not None:
        param = _joined(path, unknown["name"])
        return Problem("unknown_parameter", {"param": param}, param=param)
    if (twice := _TWICE.match(said)) is not None:
        param = _joined(path, twice["name"])
        return _invalid(param, f"Invalid '{param}': it is given more than once.")
    if not path and _UNTAGGED.match(said):
        text = "A required field is missing, or a field has a value of a wrong type."
        return Problem("invalid_value", {"message": text}, code="invalid_type")
    if not path:
        return Problem("malformed_json")
    return _of_value(path, said)


def _of_value(path: str, said: str) -> Problem:
    if (variant := _VARIANT.match(said)) is not None:
        known = ", ".join(f"'{one}'" for one in _QUOTED.findall(variant["known"]))
        return _invalid(path, f"Invalid value: '{redacted(variant['given'])}'. Supported values are: {known}.")
    if (kind := _TYPE.match(said)) is not None:
        got = next((noun for start, noun in _GIVEN if kind["given"].startswith(start)), "another type")
        wanted = next((noun for pattern, noun in _WANTED if pattern.match(kind["wanted"])), "another type")
        return Problem("invalid_type", {"param": path, "expected": wanted, "got": got}, param=path)
    if (value := _VALUE.match(said)) is not None:
        words = "below minimum value" if value["given"].startswith("-") else "above maximum value"
        return _invalid(path, f"Invalid '{path}': integer {words}, got {value['given']}.")
    if (untagged := _UNTAGGED.match(said)) is not None:
        field, wanted = _ENUMS.get(untagged["name"], ("", ""))
        param = path + field
        text = f"Invalid type for '{param}': expected {wanted}." if wanted else f"Invalid value for '{param}'."
        return _invalid(param, text, "invalid_type" if wanted else None)
    text = for_client(said)
    return _invalid(path, text if path in text else f"Invalid '{path}': {text}" if text else f"Invalid '{path}'.")


def _out_of_bounds(path: str, said: str, facts: str) -> Problem:
    numbers = {fact["name"]: fact["number"] for fact in _FACT.finditer(facts)}
    if said not in ("range", "length"):
        text = for_client(said).rstrip(".")
        return _invalid(path, f"Invalid '{path}': {text}." if text else f"Invalid '{path}'.")
    value = numbers.get("value")
    low, high = numbers.get("min"), numbers.get("max")
    got = f", but got {value} instead" if value is not None else ""
    if low is not None and (high is None or value is None or float(value) < float(low)):
        words, bound = "below minimum value", f">= {low}"
    elif high is not None:
        words, bound = "above maximum value", f"<= {high}"
    else:
        return _invalid(path, f"Invalid '{path}'.")
    if said == "length":
        return _invalid(path, f"Invalid '{path}': expected a length {bound}.")
    number = "decimal" if "." in (value or "") else "integer"
    return _invalid(path, f"Invalid '{path}': {number} {words}. Expected a value {bound}{got}.")


def _invalid(param: str, message: str, code: str | None = None) -> Problem:
    return Problem("invalid_value", {"message": message or f"Invalid '{param}'."}, param=param, code=code)
