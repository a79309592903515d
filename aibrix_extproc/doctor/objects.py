"""Kubernetes objects as they come, looked up by kind and name, and read by path. Nothing in them raises."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

_DURATION: Final = re.compile(r"(\d+)(h|ms|m|s)")
_DURATIONS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_QUANTITY: Final = re.compile(r"(\d+(?:\.\d+)?)(Ki|Mi|Gi|Ti|k|M|G|T)?")
_QUANTITIES: Final = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12,
                      "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Thing:
    """One object."""

    kind: str
    namespace: str
    name: str
    content: Mapping[str, Any] = field(repr=False, hash=False)

    @property
    def subject(self) -> str:
        """The name of the object in findings."""
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"

    def at(self, path: str) -> Any:
        """The value at a dotted path; None if any part of it is not there."""
        return at(self.content, path)

    def items(self, path: str) -> list[Any]:
        """The list at a path; empty if there is none."""
        return listed(self.content, path)

    def mapping(self, path: str) -> Mapping[str, Any]:
        """The mapping at a path; empty if there is none."""
        found = self.at(path)
        return found if isinstance(found, Mapping) else {}


def at(content: Any, path: str) -> Any:
    """The value at a dotted path of nested mappings; None if any part of it is not there."""
    for part in path.split("."):
        if not isinstance(content, dict):
            return None
        content = content.get(part)
    return content


def listed(content: Any, path: str) -> list[Any]:
    """The list at a dotted path; empty if there is none."""
    found = at(content, path)
    return found if isinstance(found, list) else []


def thing_of(content: Mapping[str, Any]) -> Thing | None:
    """An object of which kind and name are known; None for anything else."""
    kind, name = content.get("kind"), at(content, "metadata.name")
    if not isinstance(kind, str) or not isinstance(name, str):
        return None
    namespace = at(content, "metadata.namespace")
    return Thing(kind, namespace if isinstance(namespace, str) else "", name, content)


@dataclass(frozen=True, slots=True)
class Cluster:
    """All objects that were read. `live`: with the status that controllers wrote."""

    things: tuple[Thing, ...]
    live: bool
    unread: Mapping[str, str] = field(default_factory=dict)  # kind -> why it could not be read
    # YAML in ConfigMaps, by namespace, name and key
    files: Mapping[tuple[str, str, str], Mapping[str, Any]] = field(default_factory=dict)

    def all(self, kind: str) -> Iterator[Thing]:
        """Every object of a kind."""
        return (one for one in self.things if one.kind == kind)

    def find(self, kind: str, namespace: str, name: str) -> Thing | None:
        """One object."""
        for one in self.all(kind):
            if one.name == name and one.namespace in (namespace, ""):
                return one
        return None

    def knows(self, kind: str) -> bool:
        """Whether the absence of an object of this kind means anything."""
        return self.live and kind not in self.unread


def seconds(value: Any) -> float | None:
    """A duration of the Gateway API (`1h30m`, `500ms`, `0s`); None if it is none."""
    if not isinstance(value, str) or not re.fullmatch(r"(\d+(h|ms|m|s))+", value):
        return None
    return sum(int(number) * _DURATIONS[unit] for number, unit in _DURATION.findall(value))


def quantity(value: Any) -> int | None:
    """A quantity of Kubernetes (`50Mi`, `1000`) as a number; None if it is none."""
    found = _QUANTITY.fullmatch(str(value)) if isinstance(value, (str, int)) else None
    return round(float(found[1]) * _QUANTITIES[found[2] or ""]) if found else None


def condition(statuses: Iterable[Any], kind: str) -> Mapping[str, Any] | None:
    """The condition of a type in a status' list; None while it is not set."""
    for one in statuses:
        if isinstance(one, Mapping) and one.get("type") == kind:
            return one
    return None
