"""The fleet as values: endpoints, what they serve, and the immutable snapshot that readers keep.

A snapshot is replaced whole, never changed; what it precomputes (endpoints by model, the listing order) is what the
hot path reads. Load is not part of it: it lives in `load.LoadBook`, keyed by `Endpoint.identity`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from aibrix_extproc.core.fleet.modelconfig import ModelConfig
from aibrix_extproc.core.fleet.roles import EngineRole


class Task(StrEnum):
    """A kind of work that an engine can do; vLLM registers routes by it."""

    GENERATE = "generate"
    EMBED = "embed"
    CLASSIFY = "classify"
    SCORE = "score"
    TRANSCRIBE = "transcription"


class Health(StrEnum):
    """Whether an endpoint may be picked."""

    READY = "ready"
    UNKNOWN = "unknown"  # not asked yet
    UNREACHABLE = "unreachable"
    SILENT = "silent"  # was ready, and polls only time out since: picked where no endpoint of the model is ready
    NOT_READY = "not_ready"  # its own health check or its readiness says no
    ASLEEP = "asleep"  # paused or sleeping: it would accept requests and let them hang
    DRAINING = "draining"  # leaves soon: finishes what it has, gets nothing new


RUST_FRONTEND: Final = "rust"


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One id that an engine answers to: its base model, an alias of it, or a LoRA adapter (which has a parent)."""

    id: str
    parent: str | None = None
    max_model_len: int | None = None
    path: str | None = None  # of an adapter: where its engine says that it was loaded from


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The `ip:port` of one engine port that can be picked.

    `identity` is stable for the life of one engine process (pod uid, address and port; for a file, its address) and
    keys its load, so a pod replaced under the same name or address, or given another address, is a new endpoint.
    `address` is empty while a pod has none; such an endpoint is never ready.
    """

    identity: str
    address: str  # ip:port, IPv6 in brackets: what Envoy's override_host compares
    name: str = ""  # for people: pod name or host name
    pod_uid: str = ""  # of the pod that it runs in, whose namespace and name are `name`; empty: in none that is known
    engine: str = "vllm"
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    annotations: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))  # AIBrix's, those for routing
    config: ModelConfig | None = None  # what one of them says, read
    group: str = ""  # the model's name by label or annotation: pods of one group share their configuration
    models: tuple[ServedModel, ...] = ()  # of a source: the names that it gives; in a snapshot: what is served
    selects: bool = False  # whether no other model is to be served than those that the source gives
    warning: str = ""  # in a snapshot: given names that the engine does not list
    weight_version: str = ""  # how the engine calls its weights; empty: it does not say
    engine_version: str = ""  # of its program; empty: it does not say
    role: EngineRole = EngineRole.BOTH
    role_set: str = ""  # its engines can take each other's KV cache over; empty: the set without a name
    frontend: str = ""  # of an engine that lacks operations; empty for one that has everything
    tasks: frozenset[Task] = frozenset()  # empty: unknown, so nothing is refused because of it
    health: Health = Health.UNKNOWN
    detail: str = ""  # why it is not ready, for the operator
    cordon: str = ""  # in a snapshot: why it gets no new requests, whatever its health; empty: it is not cordoned
    api_key: str | None = field(default=None, repr=False)  # the engine's own key, injected upstream
    max_sequences: int | None = None  # that it runs at once; None: it is not known
    runtime: str = ""  # ip:port of AIBrix's runtime sidecar, which loads adapters in place of the engine; empty: none

    @property
    def base_model(self) -> str:
        """The first model that it serves which is no adapter; empty if none is known."""
        return next((one.id for one in self.models if one.parent is None), "")

    def does(self, tasks: frozenset[str], lacking_frontends: frozenset[str]) -> bool:
        """Whether it does one of these tasks; an engine whose tasks are unknown is never refused because of them."""
        if self.frontend in lacking_frontends:
            return False
        return not tasks or not self.tasks or not tasks.isdisjoint(self.tasks)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All endpoints with what they serve, at one moment.

    `by_model` holds every endpoint of a model in stable order, ready or not: a model with no ready endpoint is a 503,
    one without any is a 404. `ready_by_model` holds those that may be picked: the ready ones, or where there is none,
    those whose polls only time out; no cordoned one, and none with the role prefill unless the model has no others.
    `prefill_by_model` holds the ready ones with that role, perhaps none, of models that also have others.
    `common_tasks` holds what all of a model's endpoints can do, so that hardly any request has to ask them one by one.
    `configs` holds the configuration of each model that has one, `partial` the models with an endpoint whose frontend
    lacks operations.
    """

    version: int = 0
    known: bool = False  # False until every source has listed once
    endpoints: tuple[Endpoint, ...] = ()
    by_model: Mapping[str, tuple[Endpoint, ...]] = field(default_factory=lambda: MappingProxyType({}))
    ready_by_model: Mapping[str, tuple[Endpoint, ...]] = field(default_factory=lambda: MappingProxyType({}))
    common_tasks: Mapping[str, frozenset[Task]] = field(default_factory=lambda: MappingProxyType({}))
    prefill_by_model: Mapping[str, tuple[Endpoint, ...]] = field(default_factory=lambda: MappingProxyType({}))
    models: Mapping[str, ServedModel] = field(default_factory=lambda: MappingProxyType({}))
    configs: Mapping[str, ModelConfig] = field(default_factory=lambda: MappingProxyType({}))
    partial: frozenset[str] = frozenset()


EMPTY: Final = Snapshot()
ALL_TASKS: Final = frozenset(Task)


def snapshot_of(endpoints: tuple[Endpoint, ...], *, version: int, known: bool = True) -> Snapshot:
    """Index a set of endpoints; the order of endpoints and models is sorted, so equal fleets give equal snapshots."""
    ordered = tuple(sorted(endpoints, key=lambda endpoint: endpoint.identity))
    by_model: dict[str, list[Endpoint]] = {}
    models: dict[str, ServedModel] = {}
    for endpoint in ordered:
        for served in endpoint.models:
            by_model.setdefault(served.id, []).append(endpoint)
            models[served.id] = _fuller(models.get(served.id), served)
    return Snapshot(
        version=version,
        known=known,
        endpoints=ordered,
        by_model=MappingProxyType({name: tuple(found) for name, found in sorted(by_model.items())}),
        ready_by_model=MappingProxyType({name: _pickable(found) for name, found in by_model.items()}),
        prefill_by_model=MappingProxyType(
            {name: ready for name, found in by_model.items() if (ready := prefill_engines(found)) is not None}
        ),
        common_tasks=MappingProxyType({name: _common_tasks(found) for name, found in by_model.items()}),
        models=MappingProxyType(dict(sorted(models.items()))),
        configs=MappingProxyType(configs_of(ordered, by_model)),
        partial=frozenset(name for name, found in by_model.items() if any(one.frontend for one in found)),
    )


def _pickable(endpoints: list[Endpoint]) -> tuple[Endpoint, ...]:
    """A poll that times out is no refusal, so silent endpoints are better than none."""
    free = [one for one in for_clients(endpoints) if not one.cordon]
    ready = tuple(one for one in free if one.health is Health.READY)
    return ready or tuple(one for one in free if one.health is Health.SILENT)


def for_clients(endpoints: Sequence[Endpoint]) -> Sequence[Endpoint]:
    """The endpoints that may get a client's own request: those with the role prefill only if there are no others."""
    return [one for one in endpoints if one.role is not EngineRole.PREFILL] or endpoints


def prefill_engines(endpoints: Sequence[Endpoint]) -> tuple[Endpoint, ...] | None:
    """The endpoints that may compute prompts for the others of the same model. None: it has only one kind."""
    found = [one for one in endpoints if one.role is EngineRole.PREFILL]
    if not found or len(found) == len(endpoints):
        return None
    return tuple(one for one in found if one.health is Health.READY and not one.cordon)


def _common_tasks(endpoints: list[Endpoint]) -> frozenset[Task]:
    """An endpoint whose tasks are unknown counts as one that can do everything."""
    return ALL_TASKS.intersection(*(one.tasks for one in endpoints if one.tasks))


def _fuller(one: ServedModel | None, other: ServedModel) -> ServedModel:
    """Of two descriptions of a model the first; the other one if only that has a length, as an engine's list has."""
    return other if one is None or (one.max_model_len is None and other.max_model_len is not None) else one


_Carrier = tuple[str, str, ModelConfig]  # name and identity of an endpoint, and its configuration


def configs_of(endpoints: tuple[Endpoint, ...], by_model: Mapping[str, Sequence[Endpoint]]) -> dict[str, ModelConfig]:
    """The configuration of each model: by the endpoints that serve it, else by all of their groups."""
    if all(endpoint.config is None for endpoint in endpoints):
        return {}
    by_group: dict[str, list[_Carrier]] = {}
    for endpoint in endpoints:
        if endpoint.group:
            by_group.setdefault(endpoint.group, []).extend(_carried(endpoint))
    found = {}
    for name, serving in sorted(by_model.items()):
        carriers = [one for endpoint in serving for one in _carried(endpoint)]
        carriers = carriers or [one for group in {one.group for one in serving} for one in by_group.get(group, ())]
        if carriers:
            found[name] = _config_of(carriers)
    return found


def _carried(endpoint: Endpoint) -> tuple[_Carrier, ...]:
    """The configuration of an endpoint, if it has one; that of a pod which is being deleted has no voice."""
    if endpoint.config is None or endpoint.health is Health.DRAINING:
        return ()
    return ((endpoint.name, endpoint.identity, endpoint.config),)


def _config_of(carriers: list[_Carrier]) -> ModelConfig:
    """The configuration that most endpoints of a model carry; of equally many, that of the first by name."""
    counts = Counter(config.text for _, _, config in carriers)
    return min(carriers, key=lambda one: (-counts[one[2].text], one[0], one[1]))[2]
