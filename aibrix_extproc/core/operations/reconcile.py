"""Plans the steps from the adapters that engines have loaded to those that are desired.

The plan is made anew from what is seen now, so it needs no memory but which adapters we loaded and from where. An
adapter on an engine is one of three things: *wanted* there, *ours* (loaded by us, or wanted once) and not wanted any
more, or *found* (loaded by a resolver plugin or by hand), which is left alone.

Placement is stable. Engines that have an adapter keep it before others get it; among equals a rendezvous hash decides,
so an engine that leaves moves only what it had.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from types import MappingProxyType
from typing import Final

from aibrix_extproc.core.operations.desired import ALL, DesiredAdapter

Where = tuple[str, str]  # name of an adapter, identity of an engine

DEFAULT_LIMIT: Final = 256  # steps of one plan


@dataclass(frozen=True, slots=True)
class EngineSeen:
    """One engine as it is now."""

    identity: str
    bases: frozenset[str]  # ids of its base model
    loaded: Mapping[str, str | None]  # adapter -> the path that the engine lists, None if it lists none
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    usable: bool = True  # whether it can load now: awake, answering, and not leaving
    capacity: int | None = None  # adapters that it may have loaded; None: not limited


@dataclass(frozen=True, slots=True)
class Ours:
    """An adapter that we loaded on an engine."""

    path: str  # from where
    listed: str | None = None  # the path that the engine listed afterwards


class Verb(StrEnum):
    """The action of a step."""

    UNLOAD = "unload"  # nobody wants it there any more
    EVICT = "evict"  # unload it, because another one needs the room
    LOAD = "load"
    RELOAD = "reload"  # load it in place from another path, and reset the prefix cache


@dataclass(frozen=True, slots=True)
class Step:
    """One call to one engine; the steps of an engine come in their order, one after the other."""

    verb: Verb
    adapter: str
    identity: str
    path: str = ""


class Kind(StrEnum):
    """The kind of a difference between an adapter and what is desired."""

    MISSING = "missing"  # wanted on an engine, and not loaded there
    WRONG_PATH = "wrong_path"  # loaded from another path
    SURPLUS = "surplus"  # ours, and not wanted on the engine
    FOUND = "found"  # loaded on an engine by somebody else, and not wanted there
    NO_ROOM = "no_room"  # wanted, and an engine has no room for it
    TOO_FEW = "too_few"  # fewer engines can have it than replicas are wanted
    NAME_TAKEN = "name_taken"  # an engine serves a base model of that name


@dataclass(frozen=True, slots=True)
class Drift:
    """One difference between desired and seen."""

    kind: Kind
    adapter: str
    identity: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """The next steps, and everything that differs. No step and no drift: all is as desired."""

    steps: tuple[Step, ...]
    drift: tuple[Drift, ...]
    wanted: Mapping[str, tuple[str, ...]]  # adapter -> identities of the engines that should have it


@dataclass(frozen=True, slots=True)
class Seen:
    """The input of a plan."""

    desired: tuple[DesiredAdapter, ...]
    engines: tuple[EngineSeen, ...]
    ours: Mapping[Where, Ours]
    demanded: Mapping[str, float] = field(
        default_factory=lambda: MappingProxyType({})
    )  # lazy adapter -> when a client last asked for it
    failing: Collection[Where] = ()  # whose last load failed: other engines come first


def plan_of(seen: Seen, limit: int = DEFAULT_LIMIT) -> Plan:
    """The plan; of more steps than `limit` only the first ones."""
    assigned = _Assignment(seen)
    for adapter in sorted(seen.desired, key=lambda one: _priority(one, seen.demanded)):
        assigned.assign(adapter)
    return _Comparison(seen, assigned).plan(limit)


def score(adapter: str, identity: str) -> bytes:
    """The rendezvous hash: engines with the greatest scores have the adapter."""
    return blake2b(f"{adapter}\0{identity}".encode(), digest_size=8).digest()


def _priority(adapter: DesiredAdapter, demanded: Mapping[str, float]) -> tuple[bool, bool, float, str]:
    """Pinned ones first, then those that are always wanted, then lazy ones, the last demanded first."""
    return (not adapter.pinned, adapter.lazy, -demanded.get(adapter.name, 0.0), adapter.name)


class _Assignment:
    """Which engines should have which adapters, within their capacity."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self.wanted: dict[str, tuple[str, ...]] = {}
        self.drift: list[Drift] = []
        names = {one.name for one in seen.desired}
        self._room: dict[str, int] = {}
        for engine in seen.engines:
            if engine.capacity is not None:
                found = sum(name not in names and (name, engine.identity) not in seen.ours for name in engine.loaded)
                self._room[engine.identity] = engine.capacity - found

    def assign(self, adapter: DesiredAdapter) -> None:
        """Choose the engines of one adapter."""
        if any(adapter.name in engine.bases for engine in self._seen.engines):
            self.drift.append(Drift(Kind.NAME_TAKEN, adapter.name, detail="a base model has this name"))
            return
        fitting = sorted(
            (engine for engine in self._seen.engines if _fits(adapter, engine)),
            key=lambda engine: self._preference(adapter.name, engine),
        )
        lazily = adapter.lazy and adapter.name not in self._seen.demanded
        limit = len(fitting) if adapter.replicas == ALL else adapter.replicas
        chosen: list[str] = []
        for engine in fitting:
            if len(chosen) >= limit or (lazily and adapter.name not in engine.loaded):
                break
            if self._room.get(engine.identity, 1) <= 0:
                self.drift.append(Drift(Kind.NO_ROOM, adapter.name, engine.identity))
                continue
            if engine.identity in self._room:
                self._room[engine.identity] -= 1
            chosen.append(engine.identity)
        self.wanted[adapter.name] = tuple(chosen)
        short = 0 if adapter.replicas == ALL or lazily else adapter.replicas - len(chosen)
        if short > 0 or not (fitting or lazily):
            detail = f"{len(chosen)} of {adapter.replicas} engines can have it"
            if not fitting:
                labels = " with these labels" if adapter.placement else ""
                detail = f"no usable engine serves the model '{adapter.base}'{labels}"
            self.drift.append(Drift(Kind.TOO_FEW, adapter.name, detail=detail))

    def _preference(self, name: str, engine: EngineSeen) -> tuple[int, bytes, str]:
        is_loaded, fails = name in engine.loaded, (name, engine.identity) in self._seen.failing
        first = 0 if is_loaded else 2 if fails else 1
        inverted = bytes(255 - byte for byte in score(name, engine.identity))
        return first, inverted, engine.identity


def _fits(adapter: DesiredAdapter, engine: EngineSeen) -> bool:
    labels = engine.labels
    return (
        engine.usable
        and adapter.base in engine.bases
        and all(labels.get(key) == value for key, value in adapter.placement.items())
    )


class _Comparison:
    """Compares what is loaded with what is wanted."""

    def __init__(self, seen: Seen, assigned: _Assignment) -> None:
        self._seen = seen
        self._wanted = {name: frozenset(chosen) for name, chosen in assigned.wanted.items()}
        self._order = assigned.wanted
        self._drift = assigned.drift
        self._desired = {one.name: one for one in seen.desired}

    def plan(self, limit: int) -> Plan:
        """Steps that free room come before those that need it."""
        steps: list[Step] = []
        for engine in sorted(self._seen.engines, key=lambda one: one.identity):
            gone = [step for name in sorted(engine.loaded) if (step := self._unneeded(name, engine)) is not None]
            steps += gone
            steps += self._needed(engine)
        return Plan(tuple(steps[:limit]), tuple(self._drift), MappingProxyType(self._order))

    def _unneeded(self, name: str, engine: EngineSeen) -> Step | None:
        """The end of an adapter that is ours and is not wanted on the engine."""
        if engine.identity in self._wanted.get(name, ()):
            return None
        desired = self._desired.get(name)
        if (name, engine.identity) not in self._seen.ours:
            if desired is not None:
                self._drift.append(Drift(Kind.FOUND, name, engine.identity, "loaded by somebody else"))
            return None
        if not engine.usable:
            return None
        self._drift.append(Drift(Kind.SURPLUS, name, engine.identity))
        evicted = desired is not None and desired.lazy
        return Step(Verb.EVICT if evicted else Verb.UNLOAD, name, engine.identity)

    def _needed(self, engine: EngineSeen) -> Iterable[Step]:
        for name in sorted(name for name, chosen in self._wanted.items() if engine.identity in chosen):
            path = self._desired[name].path
            if name not in engine.loaded:
                self._drift.append(Drift(Kind.MISSING, name, engine.identity))
                yield Step(Verb.LOAD, name, engine.identity, path)
            elif not self._is_from(path, name, engine):
                self._drift.append(Drift(Kind.WRONG_PATH, name, engine.identity, engine.loaded[name] or ""))
                yield Step(Verb.RELOAD, name, engine.identity, path)

    def _is_from(self, path: str, name: str, engine: EngineSeen) -> bool:
        """Whether the loaded adapter is the one of the path. Engines may list a path as they resolved it."""
        listed, ours = engine.loaded[name], self._seen.ours.get((name, engine.identity))
        if ours is not None:
            return ours.path == path and (ours.listed is None or listed is None or listed == ours.listed)
        return listed is None or listed == path
