"""The fields of an interface, to the leaves, each once: a type that stands at several places is told at the first.

A path names a field and the variants of the objects around it: `messages[user].content[image_url].image_url.url`.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

Json = dict[str, Any]

_REFERENCE: Final = "#/$defs/"
_TELLING: Final = ("role", "type", "object")  # members whose constants tell variants apart, in this order


@dataclass(frozen=True, slots=True)
class Step:
    """One step into a schema: to a property, to the items of an array (`[]`), to the values of a map (`{}`).

    `variant` is the object or array of a union that is entered, by its place among the variants.
    """

    name: str
    variant: int = 0


@dataclass(frozen=True, slots=True)
class FieldAt:
    """A field and where it stands."""

    path: str
    steps: tuple[Step, ...]  # from the root to the field itself
    schema: Json
    required: bool
    owner: str  # the definition that has the field, "" for an object without a name

    @property
    def name(self) -> str:
        """Its own name."""
        return self.steps[-1].name

    @property
    def top(self) -> bool:
        """Whether it is a member of the body itself."""
        return len(self.steps) == 1


def fields_of(schema: Json, definitions: Mapping[str, Json]) -> tuple[FieldAt, ...]:
    """Every field that a schema leads to, nearest first."""
    found: dict[str, FieldAt] = {}
    told: set[tuple[str, str]] = set()
    waiting: deque[tuple[str, tuple[Step, ...], Json]] = deque([("", (), schema)])
    while waiting:
        path, steps, at = waiting.popleft()
        several = variants(at, definitions)
        tags = _tags([variant for _, variant in several])
        for number, (owner, variant) in enumerate(several):
            for step, mark, inner in _inside(variant):
                here = (*steps, Step(step, number))
                if mark:
                    waiting.append((f"{path}{mark}", here, inner))
                    continue
                name = f"{_tagged(path, tags[number])}.{step}" if path else step
                if (owner, step) in told if owner else name in found:
                    continue
                told.add((owner, step))
                found.setdefault(name, FieldAt(name, here, inner, step in variant.get("required", ()), owner))
                waiting.append((name, here, inner))
    return tuple(found.values())


def _tags(several: list[Json]) -> list[str]:
    """What tells the objects of a union apart, as each says it; empty where there is nothing to tell apart."""
    if sum("properties" in one for one in several) < 2:
        return [""] * len(several)
    return [
        next(filter(None, (_constant(one.get("properties", {}).get(name, {})) for name in _TELLING)), "")
        for one in several
    ]


def _constant(schema: Json) -> str:
    found = schema.get("const", schema.get("enum", [""])[0])
    return found if isinstance(found, str) else ""


def _tagged(path: str, tag: str) -> str:
    if not tag:
        return path
    return f"{path[:-2]}[{tag}]" if path.endswith("[]") else f"{path}({tag})"


def _inside(variant: Json) -> Iterator[tuple[str, str, Json]]:
    """Where one can go from an object or an array: the step, its mark in a path, the schema there."""
    for name, inner in variant.get("properties", {}).items():
        yield name, "", inner
    for keyword, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if isinstance(variant.get(keyword), dict):
            yield mark, mark, variant[keyword]


def variants(schema: Json, definitions: Mapping[str, Json]) -> list[tuple[str, Json]]:
    """The schemas without references and unions of which a value follows one, each with its definition's name."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(_REFERENCE)
        return [(inner or name, one) for inner, one in variants(definitions[name], definitions)]
    branches = schema.get("anyOf") or schema.get("oneOf")
    if branches:
        return [found for one in branches for found in variants(one, definitions)]
    return [("", schema)]
