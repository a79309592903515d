"""One tree out of a base and its variants: what stands always, and what stands under a condition.

A variant is the base with one component. Each node says what it is without any component and what each condition makes
of it; components are expected not to change the same place, which the tests of the rendered charts hold.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Variants = Mapping[str, Any]  # condition: the value under it, where that differs from the base


@dataclass(frozen=True, slots=True)
class Part:
    """A member of a mapping or an item of a list. `base` counts where none of the conditions in `variants` holds."""

    key: str  # of a mapping; of a list's item its name, or ""
    base: Any = None
    variants: Variants = field(default_factory=dict)
    only: tuple[str, ...] = ()  # it is there only under one of these conditions
    unless: tuple[str, ...] = ()  # it is not there under any of these


def members(base: Mapping[str, Any], variants: Variants) -> Iterator[Part]:
    """The parts of a mapping, those of the base first."""
    for key, value in base.items():
        changed = {name: other[key] for name, other in variants.items() if key in other and other[key] != value}
        yield Part(key, value, changed, unless=tuple(name for name, other in variants.items() if key not in other))
    fresh: dict[str, dict[str, Any]] = {}
    for name, other in variants.items():
        for key in other.keys() - base.keys():
            fresh.setdefault(key, {})[name] = other[key]
    for key in sorted(fresh):
        yield from _fresh(key, fresh[key])


def _fresh(key: str, values: dict[str, Any]) -> Iterator[Part]:
    """A member that only conditions bring. Lists and mappings of several of them are joined under one key."""
    first = next(iter(values.values()))
    if len(values) > 1 and isinstance(first, (list, dict)) and any(one != first for one in values.values()):
        yield Part(key, type(first)(), values, only=tuple(values))
    else:
        yield from _additions([(key, key, name, value) for name, value in values.items()])


def items(base: Sequence[Any], variants: Variants) -> Iterator[Part]:
    """The parts of a list in order. Items are the same by their name, or if they are equal."""
    known = {_identity(item) for item in base}
    added: dict[str, list[tuple[str, str, str, Any]]] = {}  # by the identity of what stands before
    for name, other in variants.items():
        before = ""
        for item in other:
            identity = _identity(item)
            if identity in known:
                before = identity
            else:
                added.setdefault(before, []).append((identity, _name(item), name, item))
    yield from _additions(added.get("", []))
    for item in base:
        identity = _identity(item)
        found = {name: {_identity(one): one for one in other} for name, other in variants.items()}
        changed = {name: one[identity] for name, one in found.items() if identity in one and one[identity] != item}
        yield Part(_name(item), item, changed, unless=tuple(name for name, one in found.items() if identity not in one))
        yield from _additions(added.get(identity, []))


def _additions(found: list[tuple[str, str, str, Any]]) -> Iterator[Part]:
    """What only conditions bring; the same thing under several of them once."""
    grouped: dict[tuple[str, str], tuple[str, Any, list[str]]] = {}
    for identity, key, condition, value in found:
        grouped.setdefault((identity, json.dumps(value, sort_keys=True)), (key, value, []))[2].append(condition)
    for key, value, conditions in grouped.values():
        yield Part(key, value, only=tuple(conditions))


def _name(item: Any) -> str:
    name = item.get("name") if isinstance(item, dict) else None
    return name if isinstance(name, str) else ""


def _identity(item: Any) -> str:
    return _name(item) or json.dumps(item, sort_keys=True)
