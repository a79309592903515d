"""What sources say about endpoints and what engines say of themselves, folded into one snapshot.

A source gives identity, address, labels and perhaps models; a poll of the engine gives models, tasks and health. Both
are kept apart here, since either may come first and each replaces only its own part.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from aibrix_extproc.core.fleet.model import EMPTY, Endpoint, Health, ServedModel, Snapshot, Task, snapshot_of
from aibrix_extproc.core.fleet.served import unique, with_listed


@dataclass(frozen=True, slots=True)
class Listed:
    """A source has read everything; what it gave before and does not name now is gone."""

    source: str
    endpoints: tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True)
class Changed:
    """A source has a new endpoint, or new facts about one."""

    source: str
    endpoint: Endpoint


@dataclass(frozen=True, slots=True)
class Gone:
    """A source has an endpoint no more."""

    source: str
    identity: str


@dataclass(frozen=True, slots=True)
class Observed:
    """What asking an engine has shown. None: not learnt this time, what was known stays."""

    identity: str
    health: Health
    models: tuple[ServedModel, ...] | None = None
    tasks: frozenset[Task] | None = None
    detail: str = ""
    frontend: str | None = None


SourceChange = Listed | Changed | Gone
Change = SourceChange | Observed

# What a source may say of an endpoint for the engine's own word to count; else the source knows what is to happen.
ASKED: Final = frozenset({Health.UNKNOWN, Health.READY})
_NOT_JUDGED: Final[frozenset[str]] = frozenset()
_BEFORE_LISTING: Final[Mapping[str, Endpoint]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Fleet:
    """The snapshot and what it was made from. Of two sources that give one identity, the one declared first wins."""

    sources: Mapping[str, Mapping[str, Endpoint]]
    unlisted: frozenset[str]  # sources that have not listed yet
    observed: Mapping[str, Observed] = field(default_factory=lambda: MappingProxyType({}))
    # By identity: the names that were given when the engine last listed its models, so that its list speaks of them.
    judged: Mapping[str, frozenset[str]] = field(default_factory=lambda: MappingProxyType({}))
    merged: Mapping[str, Endpoint] = field(default_factory=lambda: MappingProxyType({}))  # by identity
    snapshot: Snapshot = EMPTY


def declared(sources: Iterable[str]) -> Fleet:
    """The fleet before anything is known: which sources will speak."""
    names = tuple(sources)
    return Fleet(MappingProxyType(dict.fromkeys(names, _BEFORE_LISTING)), frozenset(names))


def reduce(fleet: Fleet, change: Change) -> Fleet:
    """Fold one change in. Where nothing that readers see has changed, the snapshot is the same object."""
    match change:
        case Observed():
            return _observe(fleet, change)
        case Listed(source, endpoints):
            return _given(fleet, source, {endpoint.identity: endpoint for endpoint in endpoints}, listed=True)
        case Changed(source, endpoint):
            changed = {**_of(fleet, source), endpoint.identity: endpoint}
            return _given(fleet, source, changed, touched={endpoint.identity})
        case Gone(source, identity):
            kept = {key: endpoint for key, endpoint in _of(fleet, source).items() if key != identity}
            return _given(fleet, source, kept, touched={identity})


def askable(fleet: Fleet) -> tuple[Endpoint, ...]:
    """The endpoints whose engines are worth asking: not those of which a source says that they are not to be picked."""
    first: dict[str, Endpoint] = {}
    for given in fleet.sources.values():
        for identity, endpoint in given.items():
            first.setdefault(identity, endpoint)
    return tuple(endpoint for endpoint in first.values() if endpoint.health in ASKED)


def _of(fleet: Fleet, source: str) -> Mapping[str, Endpoint]:
    if source not in fleet.sources:
        raise ValueError(f"undeclared source: {source}")
    return fleet.sources[source]


def _given(
    fleet: Fleet, source: str, endpoints: dict[str, Endpoint], *, listed: bool = False, touched: set[str] | None = None
) -> Fleet:
    """Replace what one source gives; observations of endpoints that nobody gives any more are dropped."""
    before = _of(fleet, source)
    unlisted = fleet.unlisted - {source} if listed else fleet.unlisted
    touched = {
        key for key in touched or before.keys() | endpoints.keys() if _differ(before.get(key), endpoints.get(key))
    }
    if not touched and unlisted == fleet.unlisted:
        return fleet
    sources = MappingProxyType({**fleet.sources, source: MappingProxyType(endpoints)})
    observed, judged = dict(fleet.observed), dict(fleet.judged)
    for key in touched & observed.keys():
        given = _first(sources, key)
        if given is None:
            del observed[key]
            judged.pop(key, None)
        elif given.health not in ASKED:
            # Kept for its models; its health is old news once the source lets the engine be asked again.
            observed[key] = replace(observed[key], health=Health.UNKNOWN, detail="")
    after = replace(
        fleet,
        sources=sources,
        unlisted=unlisted,
        observed=MappingProxyType(observed),
        judged=MappingProxyType(judged),
    )
    return _settled(after, touched=touched)


def _differ(one: Endpoint | None, other: Endpoint | None) -> bool:
    return one is not other and one != other  # the first test spares nearly all of the second in a large fleet


def _first(sources: Mapping[str, Mapping[str, Endpoint]], identity: str) -> Endpoint | None:
    """What the first source that knows an endpoint says of it."""
    return next((given[identity] for given in sources.values() if identity in given), None)


def _observe(fleet: Fleet, seen: Observed) -> Fleet:
    """Take in what an engine has shown; an endpoint that left while it was asked is no longer of interest."""
    if seen.identity not in fleet.merged:
        return fleet
    before, judged = fleet.observed.get(seen.identity), fleet.judged
    given = _first(fleet.sources, seen.identity)
    if seen.models is not None and given is not None:
        names = frozenset(model.id for model in given.models)
        if names != judged.get(seen.identity):
            judged = MappingProxyType({**judged, seen.identity: names})
    if before is not None:
        seen = replace(
            seen,
            models=before.models if seen.models is None else seen.models,
            tasks=before.tasks if seen.tasks is None else seen.tasks,
            frontend=before.frontend if seen.frontend is None else seen.frontend,
        )
    if seen == before and judged is fleet.judged:
        return fleet
    observed = MappingProxyType({**fleet.observed, seen.identity: seen})
    return _settled(replace(fleet, observed=observed, judged=judged), touched={seen.identity})


def _settled(fleet: Fleet, touched: set[str]) -> Fleet:
    """The fleet with the snapshot that its parts give; only the touched endpoints are merged anew."""
    merged = dict(fleet.merged)
    for identity in touched:
        merged.pop(identity, None)
        given = _first(fleet.sources, identity)
        if given is not None:
            merged[identity] = _seen(given, fleet.observed.get(identity), fleet.judged.get(identity, _NOT_JUDGED))
    before = fleet.snapshot
    # Known once is known for good: an endpoint that joins later must not make the gateway unready.
    known = before.known or (not fleet.unlisted and all(one.health is not Health.UNKNOWN for one in merged.values()))
    if known == before.known and all(merged.get(key) == fleet.merged.get(key) for key in touched):
        return fleet
    after = snapshot_of(tuple(merged.values()), version=before.version + 1, known=known)
    return replace(fleet, merged=MappingProxyType(merged), snapshot=after)


def _seen(given: Endpoint, seen: Observed | None, judged: frozenset[str]) -> Endpoint:
    """An endpoint as its source gives it, with what the engine has shown."""
    if seen is None:
        return replace(given, models=unique(given.models))
    # A source that says "not ready" or "draining" knows what is about to happen; one that says nothing, or "ready" in
    # advance, gives way to what the engine answers.
    asked = given.health in ASKED and seen.health is not Health.UNKNOWN
    return replace(
        with_listed(given, seen.models or (), judged),
        frontend=seen.frontend or "",
        tasks=given.tasks or seen.tasks or frozenset(),
        health=seen.health if asked else given.health,
        detail=seen.detail if asked else given.detail,
    )
