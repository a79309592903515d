"""What is asked for each field: the request without it, with a good value, a wrong one, and values at its limits."""

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from aibrix_extproc.interfaces.catalogue import catalogue
from aibrix_extproc.interfaces.fields import FieldAt, fields_of
from tools.measure.engines import MODEL
from tools.measure.values import Values

Json = dict[str, Any]

FORMS: Final = frozenset({"transcription", "translation"})
_TABLES: Final = frozenset({"values", "together", "reasons", "vision"})


@dataclass(frozen=True, slots=True)
class Probe:
    """The requests about one field. `@answer` and `@tokens` in them are put in when they are sent."""

    field: FieldAt
    control: Json
    valid: Json
    wrong: Json | None
    bounds: Mapping[str, Json]  # by the value as it is shown
    required: bool  # whether the request without it may fail
    why: str  # why no effect can be seen, if there is a reason


@cache
def table() -> Json:
    """The table of probes."""
    return tomllib.loads((Path(__file__).parent / "probes.toml").read_text("utf-8"))


def operations() -> list[str]:
    """The operations that are measured."""
    return [name for name in table() if name not in _TABLES]


def base(operation: str) -> Json:
    """The request that all probes of an operation change."""
    made: Json = {"model": MODEL, **table()[operation]["base"]}
    return made


def probes(operation: str, *, vision: bool, top: bool = False) -> Iterator[Probe]:
    """Every field of an operation's request; with `vision` those that need an engine for images, else the others.

    With `top` only the members of the body itself.
    """
    known = catalogue()
    request = known.interfaces[operation].request
    assert request is not None
    values = Values(known.definitions, table()["values"], table()["together"])
    pictured = tuple(table()["vision"].get(operation, ()))
    for field in fields_of(request, known.definitions):
        if field.path.startswith(pictured or ("\0",)) == vision and field.path != "file" and (field.top or not top):
            yield _probe(operation, field, request, values)


def _probe(operation: str, field: FieldAt, request: Json, values: Values) -> Probe:
    rows = table()[operation]["fields"]
    row = rows.get(field.path, {})
    around = rows.get(field.steps[0].name, {})  # what an inner field needs is what its outermost needs
    why = row.get("why") or (table()["reasons"].get(field.name, "") if field.top else "")
    start = {name: value for name, value in base(operation).items() if name not in around.get("without", ())}
    start |= around.get("with", {})
    valid = row.get("valid", values.valid(field.schema, field.name))
    if field.path == "model":
        valid = MODEL
    tried = [*row.get("bounds", ()), *values.bounds(field.schema)]

    def asked(leaf: Any) -> Json:
        if operation in FORMS:
            return start | {field.path: _text(leaf)}
        top = field.steps[0].name
        return start | {top: values.holding(request, field.steps, leaf)[top]}

    wrong = None if operation in FORMS and not _numeric(field.schema) else values.wrong(field.schema)
    return Probe(
        field,
        control=asked(row["against"]) if "against" in row else _without(start, field, request, values),
        valid=asked(valid),
        wrong=None if wrong is None else asked(wrong),
        bounds={shown(value): asked(value) for value in tried},
        required=field.required or field.path in start,
        why=why,
    )


def _without(start: Json, field: FieldAt, request: Json, values: Values) -> Json:
    top = field.steps[0].name
    if field.top or "." not in field.path:
        return {name: value for name, value in start.items() if name != top}
    return start | {top: values.holding(request, field.steps, without=True)[top]}


def _numeric(schema: Json) -> bool:
    kinds = {schema.get("type"), *(one.get("type") for one in schema.get("anyOf", ()))}
    return bool(kinds & {"integer", "number", "boolean"})


def _text(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return [str(one) for one in value] if isinstance(value, list) else str(value)


def shown(value: Any) -> str:
    """A value in a key of the results."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def filled(body: Any, answer: str, tokens: Sequence[int]) -> Any:
    """The body with its placeholders replaced."""
    if body == "@answer":
        return answer
    if body == "@tokens":
        return list(tokens)
    if isinstance(body, dict):
        return {name: filled(value, answer, tokens) for name, value in body.items()}
    if isinstance(body, list):
        return [filled(one, answer, tokens) for one in body]
    return body
