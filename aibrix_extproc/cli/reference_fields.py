"""Tables of the fields of one operation, to the leaves, each with what a real engine did with it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from aibrix_extproc.cli.reference_markdown import code, table
from aibrix_extproc.interfaces.catalogue import catalogue
from aibrix_extproc.interfaces.fields import FieldAt, fields_of, variants
from aibrix_extproc.interfaces.verdicts import MEASURED, NEWEST, STORED, verdicts

Json = dict[str, Any]

_NOTHING: Final[Json] = {}
_SUPPORT: Final = {"honoured": "yes", "checked": "accepted", "ignored": "ignored", "refused": "refused"}
_HEAD: Final = ("field", "type", "required", "default", "support", "meaning")
_LONG: Final = 6  # values of an enumeration that are named


def request_tables(operation: str, meanings: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Titles and tables of a request's fields. `meanings` are sentences about this gateway, by name."""
    schema = catalogue().interfaces[operation].request
    if schema is None:
        return
    fields = fields_of(schema, catalogue().definitions)
    top = [one for one in fields if one.top]
    yield "", _SUPPORT_MEANS + _table(operation, (one for one in top if one.schema.get("x-origin") != "vllm"), meanings)
    own = [one for one in top if one.schema.get("x-origin") == "vllm"]
    if own:
        yield "vLLM's own fields", _VLLM + _table(operation, own, meanings)
    inner = [one for one in fields if not one.top]
    working = [one for one in inner if _verdict(operation, one).get("verdict") not in ("ignored", None)]
    if working:
        yield "Fields inside of fields", _PATHS + _table(operation, sorted(working, key=_path), {})
    rest = sorted(one.path for one in inner if one not in working)
    if rest:
        yield "Without effect", f"{_IGNORED}\n\n{', '.join(map(code, rest))}"


_VLLM: Final = (
    "OpenAI's service does not have these. In Python they go into `extra_body={...}`; in Node and in plain HTTP they"
    " are members like all others.\n\n"
)
_SUPPORT_MEANS: Final = "What `support` means: [versions](../api.md#versions).\n\n"
_PATHS: Final = (
    "A path names a field and the kinds of the objects around it: `messages[user].content[image_url]` is a part of the"
    " type `image_url` in a message of the role `user`.\n\n"
)
_IGNORED: Final = "vLLM takes these fields of the SDK and does nothing with them, whatever their value:"


def _path(field: FieldAt) -> str:
    return field.path


def _table(operation: str, fields: Iterator[FieldAt] | Sequence[FieldAt], meanings: Mapping[str, str]) -> str:
    return table(_HEAD, (_row(operation, one, meanings) for one in fields))


def _row(operation: str, field: FieldAt, meanings: Mapping[str, str]) -> tuple[str, ...]:
    default = field.schema.get("default")
    return (
        code(field.path),
        type_of(field.schema),
        _presence(operation, field),
        "" if default is None else code(_json(default)),
        support(operation, field.path),
        meanings.get(field.name, "") if field.top and field.name in meanings else field.schema.get("description", ""),
    )


def _presence(operation: str, field: FieldAt) -> str:
    """Whether a request must have the field; of a request with several forms, whether all of them must."""
    if not field.required:
        return ""
    request = catalogue().interfaces[operation].request or _NOTHING
    forms = [set(one.get("required", ())) for _, one in variants(request, catalogue().definitions)]
    return "yes" if not field.top or all(field.name in form for form in forms) else "in one form"


def _verdict(operation: str, field: FieldAt, name: str = NEWEST) -> Json:
    found: Json = verdicts(name).get(operation, _NOTHING).get("request", _NOTHING).get(field.path, _NOTHING)
    return found or stored(operation).get(field.path, _NOTHING)


def support(operation: str, path: str) -> str:
    """A cell: what the newest engine did with a field, and what others did if that is something else."""
    found = {name: verdicts(name).get(operation, _NOTHING).get("request", _NOTHING).get(path) for name in MEASURED}
    newest = found[NEWEST]
    if newest is None:
        return _stored(operation, path)
    others = (
        f"; {MEASURED[name]}: {_told(verdict)}"
        for name, verdict in found.items()
        if verdict is not None and verdict["verdict"] != newest["verdict"]
    )
    return _told(newest) + "".join(others)


def _stored(operation: str, path: str) -> str:
    """A cell about a field of a stored object; for an object in a request it points to the members."""
    own = stored(operation)
    if path in own:
        return _told(own[path])
    return "as its members" if any(one.startswith(f"{path}.") for one in own) else "in every request that was measured"


def stored(operation: str) -> Json:
    """The verdicts on the fields of a stored object's operation, of its body or its query."""
    places: Json = verdicts(STORED).get(operation, _NOTHING)
    found: Json = places.get("request") or places.get("query") or _NOTHING
    return found


def _told(verdict: Json) -> str:
    words = _SUPPORT[verdict["verdict"]]
    if verdict["verdict"] == "refused":
        words += f": {verdict['error']}"
    elif "why" in verdict and verdict["verdict"] != "honoured":
        words += f": {verdict['why']}"
    if "otherwise" in verdict:
        words += "; without `engine_controls` " + verdict["otherwise"]
    return words


def tried(operation: str) -> str:
    """A table of values that were refused, each with its error: how to provoke the errors of the engine."""
    own = stored(operation)
    found = own or verdicts().get(operation, _NOTHING).get("request", _NOTHING)
    rows = []
    for path, verdict in sorted(found.items()):
        if ("." in path and not own) or verdict["verdict"] == "refused":
            continue
        bad = {value: said for value, said in verdict.get("bounds", {}).items() if said != "ok"}
        if verdict.get("wrong", "ok") != "ok":
            bad["a value of another type"] = verdict["wrong"]
        rows += [
            (code(path), value if value.startswith("a value") else code(value), said) for value, said in bad.items()
        ]
    return table(("field", "value", "error"), rows) if rows else ""


def answer_tables(operation: str, place: str, meanings: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Titles and tables of an answer's fields, or an event's."""
    schema = getattr(catalogue().interfaces[operation], place)
    if schema is None:
        return
    seen = verdicts().get(operation, _NOTHING).get(place, _NOTHING)
    fields = fields_of(schema, catalogue().definitions)
    known = [one for one in fields if seen.get(one.path) == "seen"] if seen else list(fields)
    head = ("field", "type", "always there", "meaning")
    rows = (
        (
            code(one.path),
            type_of(one.schema),
            "yes" if one.required else "",
            meanings.get(one.name, "") if one.top and one.name in meanings else one.schema.get("description", ""),
        )
        for one in sorted(known, key=lambda one: (not one.top, one.path if not one.top else ""))
    )
    yield "", table(head, rows)
    nulls = sorted(one.path for one in fields if seen.get(one.path) == "null")
    if nulls:
        yield "Always null", f"{_NULL}\n\n{', '.join(map(code, nulls))}"
    absent = sorted(one.path for one in fields if seen.get(one.path) == "absent")
    if absent:
        yield "Not sent", f"{_ABSENT}\n\n{', '.join(map(code, absent))}"


_NULL: Final = "These were in measured answers, and never anything but `null` or empty:"
_ABSENT: Final = "The SDK knows these, and no measured answer had them:"


def type_of(schema: Json) -> str:
    """The type of a field in a few words."""
    found = [_kind(one) for _, one in variants(schema, catalogue().definitions)]
    values = [value for _, one in variants(schema, catalogue().definitions) for value in _values(one)]
    kinds = list(dict.fromkeys(kind for kind in found if kind != "null"))
    words = " or ".join(kinds) or "null"
    if values and len(values) <= _LONG:
        words = ", ".join(code(_json(value)) for value in dict.fromkeys(map(str, values)))
        words += "".join(f" or {kind}" for kind in kinds if kind != "string")
    limits = [_limit(one) for _, one in variants(schema, catalogue().definitions)]
    return words + "".join(dict.fromkeys(limit for limit in limits if limit))


def _values(schema: Json) -> list[Any]:
    return [schema["const"]] if "const" in schema else [one for one in schema.get("enum", ()) if one is not None]


def _kind(schema: Json) -> str:
    kind = schema.get("type", "object" if "properties" in schema else "string" if _values(schema) else "any")
    if kind == "array":
        inner = schema.get("items") or {}
        names = {one.get("type", "object" if "properties" in one else "any")
                 for _, one in variants(inner, catalogue().definitions)}  # fmt: skip
        return f"array of {' or '.join(sorted(names))}" if inner else "array"
    return str(kind)


def _limit(schema: Json) -> str:
    words = [
        f"{sign} {schema[name]}"
        for name, sign in (("minimum", ">="), ("maximum", "<="))
        if name in schema and abs(schema[name]) < 1 << 60
    ]
    if "maxItems" in schema:
        words.append(f"at most {schema['maxItems']}")
    if "maxLength" in schema:
        words.append(f"{schema.get('minLength', 0)} to {schema['maxLength']} characters")
    return f" ({', '.join(words)})" if words else ""


def _json(value: object) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    return str(value).lower() if isinstance(value, bool) else str(value)
