"""AIBrix's ModelAdapters as desired adapters, and the status that is written back to them.

Field names and phases are those of model.aibrix.ai/v1alpha1.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from aibrix_extproc.core.fleet.kubernetes.objects import Metadata, ModelAdapter, subject_of
from aibrix_extproc.core.fleet.kubernetes.podspec import MODEL
from aibrix_extproc.core.openai.contract.errors import error_object
from aibrix_extproc.core.operations.desired import DesiredAdapter, read_adapter
from aibrix_extproc.core.operations.placed import AdapterState, State

Tree = dict[str, Any]

KIND: Final = ModelAdapter.__name__
MAX_MESSAGE: Final = 1024  # characters in a condition; the API allows 32 KiB
_REPOSITORY_SCHEMES: Final = ("huggingface://", "hf://")  # an engine takes the id of the repository alone


class Declaration(msgspec.Struct, frozen=True):
    """A ModelAdapter as the API server has it. What users write is checked later, so that a slip can be reported."""

    metadata: Metadata = Metadata()
    spec: Any = None
    status: Any = None

    @property
    def subject(self) -> str:
        """The name of the object for people and records."""
        return subject_of(ModelAdapter, self.metadata.namespace, self.metadata.name)


class Unfit(msgspec.Struct, frozen=True):
    """Why a ModelAdapter cannot be followed, for its author."""

    reason: str


class RecordPlan(msgspec.Struct, frozen=True):
    """Changes to the records of adapters, and the objects that are not followed."""

    put: tuple[DesiredAdapter, ...]
    drop: tuple[str, ...]
    unfit: Mapping[str, str]  # by subject


def desired_of(one: Declaration) -> DesiredAdapter | Unfit:
    """The adapter that an object asks for."""
    spec = one.spec if isinstance(one.spec, dict) else {}
    selector = spec.get("podSelector")
    if selector is None:
        selector = {}
    if not isinstance(selector, dict):
        return Unfit("spec.podSelector is not an object")
    if selector.get("matchExpressions"):
        return Unfit("spec.podSelector.matchExpressions is not supported; use matchLabels")
    if spec.get("credentialsSecretRef"):
        return Unfit("spec.credentialsSecretRef is not supported; the engine needs access to the artifact itself")
    labels = selector.get("matchLabels")
    by_label = labels.get(MODEL) if isinstance(labels, dict) else None
    fields = {
        "path": _path(spec.get("artifactURL")),
        "base": spec.get("baseModel") or by_label,
        "replicas": spec.get("replicas"),
        "placement": labels,
    }
    record = read_adapter(one.metadata.name, fields)
    if isinstance(record, DesiredAdapter):
        return msgspec.structs.replace(record, source=one.subject)
    return Unfit(f"{error_object(record)['message']} (path: spec.artifactURL, base: spec.baseModel)")


def plan_records(objects: Iterable[Declaration], present: Mapping[str, DesiredAdapter]) -> RecordPlan:
    """The records that follow from the objects. The oldest object of a name counts.

    The record of an object that has become unfit stays as it was: a slip does not unload an adapter.
    """
    put: list[DesiredAdapter] = []
    unfit: dict[str, str] = {}
    owners: dict[str, str] = {}
    living = set()
    for one in sorted(objects, key=_age):
        if one.metadata.deletion_timestamp is not None:
            continue
        living.add(one.subject)
        wanted = desired_of(one)
        if isinstance(wanted, Unfit):
            unfit[one.subject] = wanted.reason
            continue
        before = present.get(wanted.name)
        owner = owners.setdefault(wanted.name, one.subject)
        if owner != one.subject:
            unfit[one.subject] = f"{owner} has the same name and is older"
        elif before is not None and not is_declared(before):
            unfit[one.subject] = "an adapter of this name was declared by the admin interface; delete it there"
        elif before != wanted:
            put.append(wanted)
    taken = {one.name for one in put}
    drop = [
        name for name, one in present.items() if is_declared(one) and one.source not in living and name not in taken
    ]
    return RecordPlan(tuple(put), tuple(drop), unfit)


def is_declared(record: DesiredAdapter) -> bool:
    """Whether a ModelAdapter declares it."""
    return record.source.startswith(f"{KIND} ")


def status_of(one: Declaration, unfit: str, states: Sequence[AdapterState], now: str) -> Tree:
    """The object's new status. It equals the old one if nothing has changed. `now`: RFC 3339."""
    wanted = [state for state in states if state.identity and state.state is not State.UNLOADING]
    loaded = [] if unfit else [state for state in wanted if state.state in (State.LOADED, State.FOUND)]
    failures = [state.detail for state in states if state.state is State.FAILED]
    is_ready = bool(loaded) and len(loaded) == len(wanted) and not failures
    phase = "Running" if loaded else "Failed" if unfit or failures else "Pending"
    reason = "Unfit" if unfit else "Failed" if failures else "Loaded" if is_ready else "Loading"
    namespace = one.metadata.namespace
    pods = {state.name.partition("/")[2] for state in loaded if state.name.startswith(f"{namespace}/")}
    condition = {
        "type": "Ready", "status": "True" if is_ready else "False", "reason": reason,
        "message": (unfit or "; ".join(dict.fromkeys(failures)))[:MAX_MESSAGE],
    }  # fmt: skip
    return {
        "phase": phase, "instances": sorted(pods), "readyReplicas": len(loaded),
        "desiredReplicas": 0 if unfit else len(wanted),
        "conditions": [condition | {"lastTransitionTime": _since(one.status, condition, now)}],
    }  # fmt: skip


def _since(before: object, condition: Mapping[str, str], now: str) -> str:
    """Since when the condition has its status."""
    conditions = before.get("conditions") if isinstance(before, dict) else None
    for one in conditions if isinstance(conditions, list) else ():
        if isinstance(one, dict) and all(one.get(key) == condition[key] for key in ("type", "status")):
            since = one.get("lastTransitionTime")
            return since if isinstance(since, str) and since else now
    return now


def _path(artifact: object) -> object:
    if isinstance(artifact, str):
        for scheme in _REPOSITORY_SCHEMES:
            if artifact.startswith(scheme):
                return artifact.removeprefix(scheme)
    return artifact


def _age(one: Declaration) -> tuple[str, str, str]:
    return one.metadata.creation_timestamp or "", one.metadata.namespace, one.metadata.name
