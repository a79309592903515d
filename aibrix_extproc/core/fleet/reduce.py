"""Folds what sources say about endpoints and what engines say of themselves into one snapshot.

A source gives identity, address, labels and perhaps models; a poll of the engine gives models, tasks and health. Both
are kept apart here, since either may come first and each replaces only its own part.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from aibrix_extproc.core.fleet.cordons import NO_CORDONS, Cordons
from aibrix_extproc.core.fleet.index import FleetIndex, Pair
from aibrix_extproc.core.fleet.model import Endpoint, Health, ServedModel, Snapshot, Task
from aibrix_extproc.core.fleet.served import served, unique


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
    """The result of a poll of an engine. None: not learnt this time, what was known stays."""

    identity: str
    health: Health
    models: tuple[ServedModel, ...] | None = None
    tasks: frozenset[Task] | None = None
    detail: str = ""
    frontend: str | None = None
    weight_version: str | None = None
    engine_version: str | None = None


@dataclass(frozen=True, slots=True)
class Cordoned:
    """Which endpoints are cordoned from now on; no other is."""

    cordons: Cordons


SourceChange = Listed | Changed | Gone
Change = SourceChange | Observed | Cordoned

# What a source may say of an endpoint for the engine's own word to count; else the source knows what is to happen.
ASKED: Final = frozenset({Health.UNKNOWN, Health.READY})
_NOT_JUDGED: Final[frozenset[str]] = frozenset()


class Fleet:
    """The snapshot and what it is made of. Of two sources that give one identity, the one declared first wins."""

    def __init__(self, sources: Iterable[str]) -> None:
        self._sources: dict[str, dict[str, Endpoint]] = {source: {} for source in sources}
        self._unlisted = set(self._sources)  # sources that have not listed yet
        self._observed: dict[str, Observed] = {}
        # By identity, the names that were given when the engine last listed its models: its list speaks of them.
        self._judged: dict[str, frozenset[str]] = {}
        self._merged: dict[str, Endpoint] = {}  # by identity
        self._unasked = 0  # of these, the ones of unknown health
        self._askable: dict[str, Endpoint] = {}
        self._cordons = NO_CORDONS
        self._index = FleetIndex()

    @property
    def snapshot(self) -> Snapshot:
        """The fleet as of now."""
        return self._index.snapshot

    @property
    def askable(self) -> Mapping[str, Endpoint]:
        """The endpoints whose engines are worth polling, as sources give them, by identity.

        Not those of which a source says that they are not to be picked.
        """
        return self._askable

    def apply(self, change: Change) -> tuple[Pair, ...]:
        """Fold one change in, and say which endpoints readers see differently.

        Without any the snapshot stays the same object, unless the fleet becomes known.
        """
        match change:
            case Observed():
                return self._observe(change)
            case Cordoned(cordons):
                self._cordons = cordons
                return self._settle([key for key, one in self._merged.items() if cordons.reason(one) != one.cordon])
            case Listed(source, endpoints):
                before, after = self._of(source), {endpoint.identity: endpoint for endpoint in endpoints}
                touched = [key for key in before.keys() | after.keys() if _differ(before.get(key), after.get(key))]
                self._sources[source] = after
                self._unlisted.discard(source)
                return self._given(touched)
            case Changed(source, endpoint):
                before = self._of(source)
                if not _differ(before.get(endpoint.identity), endpoint):
                    return ()
                before[endpoint.identity] = endpoint
                return self._given([endpoint.identity])
            case Gone(source, identity):
                return self._given([identity] if self._of(source).pop(identity, None) is not None else [])

    def _of(self, source: str) -> dict[str, Endpoint]:
        if source not in self._sources:
            raise ValueError(f"undeclared source: {source}")
        return self._sources[source]

    def _first(self, identity: str) -> Endpoint | None:
        """The endpoint as the first source gives it that has it."""
        for given in self._sources.values():
            found = given.get(identity)
            if found is not None:
                return found
        return None

    def _given(self, touched: Collection[str]) -> tuple[Pair, ...]:
        """Updates endpoints after a change of sources; drops observations of those that no source gives any more."""
        for key in touched:
            given = self._first(key)
            if given is not None and given.health in ASKED:
                self._askable[key] = given
            else:
                self._askable.pop(key, None)
            if given is None:
                self._observed.pop(key, None)
                self._judged.pop(key, None)
            elif given.health not in ASKED and key in self._observed:
                # Kept for its models; its health is old news once the source lets the engine be asked again.
                self._observed[key] = replace(self._observed[key], health=Health.UNKNOWN, detail="")
        return self._settle(touched)

    def _observe(self, seen: Observed) -> tuple[Pair, ...]:
        """Take in what an engine has shown; an endpoint that left while it was asked is no longer of interest."""
        key = seen.identity
        given = self._first(key)
        if given is None:
            return ()
        before, news = self._observed.get(key), False
        if seen.models is not None:
            names = frozenset(model.id for model in given.models)
            news = names != self._judged.get(key)
            self._judged[key] = names
        if before is not None:
            seen = replace(
                seen,
                models=before.models if seen.models is None else seen.models,
                tasks=before.tasks if seen.tasks is None else seen.tasks,
                frontend=before.frontend if seen.frontend is None else seen.frontend,
                engine_version=before.engine_version if seen.engine_version is None else seen.engine_version,
            )
        if seen == before and not news:
            return ()
        self._observed[key] = seen
        return self._settle((key,))

    def _settle(self, touched: Iterable[str]) -> tuple[Pair, ...]:
        """Merge the touched endpoints anew, and make the next snapshot if readers would see a difference."""
        pairs: list[Pair] = []
        for key in touched:
            given, old = self._first(key), self._merged.get(key)
            new = None
            if given is not None:
                new = _seen(given, self._observed.get(key), self._judged.get(key, _NOT_JUDGED))
                if self._cordons:
                    new = replace(new, cordon=self._cordons.reason(new))
                self._merged[key] = new
            elif old is not None:
                del self._merged[key]
            if _differ(old, new):
                self._unasked += _is_unasked(new) - _is_unasked(old)
                pairs.append((old, new))
        # Known once is known for good: an endpoint that joins later must not make the gateway unready.
        known = self.snapshot.known or not (self._unlisted or self._unasked)
        if pairs or known != self.snapshot.known:
            self._index.apply(pairs, known=known)
        return tuple(pairs)


def _is_unasked(endpoint: Endpoint | None) -> bool:
    return endpoint is not None and endpoint.health is Health.UNKNOWN


def _differ(one: Endpoint | None, other: Endpoint | None) -> bool:
    return one is not other and one != other  # the first test spares nearly all of the second in a large fleet


def _seen(given: Endpoint, seen: Observed | None, judged: frozenset[str]) -> Endpoint:
    """An endpoint as its source gives it, with what the engine has shown."""
    if seen is None:
        return replace(given, models=unique(given.models))
    # A source that says "not ready" or "draining" knows what is about to happen; one that says nothing, or "ready" in
    # advance, gives way to what the engine answers.
    asked = given.health in ASKED and seen.health is not Health.UNKNOWN
    models, warning = served(given, seen.models or (), judged)
    return replace(
        given,
        models=models,
        warning=warning,
        frontend=seen.frontend or "",
        weight_version=seen.weight_version or "",
        engine_version=seen.engine_version or "",
        tasks=given.tasks or seen.tasks or frozenset(),
        health=seen.health if asked else given.health,
        detail=seen.detail if asked else given.detail,
    )
