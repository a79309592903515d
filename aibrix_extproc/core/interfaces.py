"""Interfaces: the operations that one caller may use, with the models, limits and engines that it may use them with."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from aibrix_extproc.core.fleet.model import Endpoint, ServedModel, Snapshot
from aibrix_extproc.core.openai.contract.operations import Action, ModelIn, Operation, Stream
from aibrix_extproc.core.placing import Caller

Json = dict[str, object]
Amounts = Mapping[str, float]
"""Names of limits with what is allowed."""

_SERVED: Final = frozenset({Action.ROUTE, Action.STICKY, Action.LOCAL, Action.METADATA})


@dataclass(frozen=True, slots=True)
class Usable:
    """A model that a caller may use."""

    served: ServedModel
    endpoints: tuple[Endpoint, ...]
    limits: Amounts  # that hold for this model, beside those that hold for all

    @property
    def tasks(self) -> frozenset[str]:
        """The tasks of its engines; empty if none of them says it."""
        return frozenset(str(task) for endpoint in self.endpoints for task in endpoint.tasks)

    def does(self, operation: Operation) -> bool:
        """Whether one of its engines does the operation."""
        return any(endpoint.does(operation.tasks, operation.lacking_frontends) for endpoint in self.endpoints)


@dataclass(frozen=True, slots=True)
class Allowance:
    """The models and limits of a caller, whatever the operation."""

    models: tuple[Usable, ...]
    limits: Amounts
    soft_limits: Amounts = field(default_factory=dict)


def usable_operations(rows: Iterable[Operation], caller: Caller, *, metadata: bool) -> tuple[Operation, ...]:
    """The rows that a caller may use. `metadata`: whether there is a metadata service."""
    return tuple(
        row
        for row in rows
        if row.action in _SERVED
        and (metadata or row.action is not Action.METADATA)
        and caller.may_see(row)
        and caller.may_use_operation(row.id)
    )


def usable_models(snapshot: Snapshot, caller: Caller, limits: Callable[[str], Amounts]) -> tuple[Usable, ...]:
    """The models that a caller may use, in the order of the list of models."""
    return tuple(
        Usable(served, snapshot.by_model[served.id], limits(served.id))
        for served in snapshot.models.values()
        if caller.may_use_model(served.id)
    )


def interface(row: Operation, summary: str, allowance: Allowance, max_bytes: int | None) -> Json:
    """The description of an operation for a caller, without its schemas. `max_bytes`: of a request's body."""
    found: Json = {
        "id": row.id,
        "object": "interface",
        "summary": summary,
        "method": row.method,
        "path": row.path.replace("...", ""),
        "api_version": _version(row.path),
        "streaming": row.stream is not Stream.NONE,
    }
    if row.model_in is not ModelIn.NONE:
        models = [model for model in allowance.models if model.does(row)]
        found["models"] = [_model(model) for model in models]
        found["engines"] = list(_engines(models))
    limits = dict(allowance.limits) if row.action is not Action.LOCAL else {}
    found["limits"] = limits if max_bytes is None else {**limits, "max_body_bytes": max_bytes}
    if allowance.soft_limits and row.action is not Action.LOCAL:
        found["soft_limits"] = dict(allowance.soft_limits)
    return found


def engine_versions(endpoints: Iterable[Endpoint]) -> dict[tuple[str, str], int]:
    """Engine and version -> how many endpoints have it, in order."""
    counts: dict[tuple[str, str], int] = {}
    for endpoint in endpoints:
        key = endpoint.engine, endpoint.engine_version
        counts[key] = counts.get(key, 0) + 1
    return dict(sorted(counts.items()))


def matches(tag: str, if_none_match: str) -> bool:
    """Whether a client has the text with this entity tag (RFC 9110, 13.1.2: compared weakly)."""
    given = [one.strip().removeprefix("W/") for one in if_none_match.split(",")]
    return f'"{tag}"' in given or given == ["*"]


def _version(path: str) -> str | None:
    first = path.split("/", 2)[1]
    return first if first[:1] == "v" and first[1:].isdigit() else None


def _model(model: Usable) -> Json:
    found: Json = {"id": model.served.id, "tasks": sorted(model.tasks)}
    if model.served.max_model_len is not None:
        found["max_model_len"] = model.served.max_model_len
    if model.limits:
        found["limits"] = dict(model.limits)
    return found


def _engines(models: Iterable[Usable]) -> Iterator[Json]:
    every = {endpoint.identity: endpoint for model in models for endpoint in model.endpoints}
    for engine, version in engine_versions(every.values()):
        yield {"engine": engine, "version": version or None}
