"""Values of operation runs: what was asked for, the state of each endpoint's step, and the object of the API."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Final

import msgspec

from aibrix_extproc.core.operations.recipes import Recipe, recipe_of


class Phase(StrEnum):
    """The progress of a run at one endpoint."""

    PENDING = "pending"
    DRAINING = "draining"  # cordoned; its requests end
    RUNNING = "running"  # the engine is being called
    VERIFYING = "verifying"  # the engine is asked whether the call has had its effect
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"  # nothing was done
    ROLLED_BACK = "rolled_back"  # something failed, and the engine was brought back


ENDED: Final = frozenset({Phase.DONE, Phase.FAILED, Phase.CANCELLED, Phase.ROLLED_BACK})
ACTIVE: Final = frozenset({Phase.DRAINING, Phase.RUNNING, Phase.VERIFYING})


class RunStatus(StrEnum):
    """The state of a whole run."""

    QUEUED = "queued"  # another run that has not ended has one of its endpoints or models
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


RUN_ENDED: Final = frozenset({RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED})


class Order(StrEnum):
    """At how many endpoints a run works at once."""

    ROLLING = "rolling"  # at `max_unavailable`; the first failure ends the run
    ALL = "all"  # at as many as `keep_available` lets


class Target(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which endpoints are meant: those for which all that is given holds."""

    model: str = ""
    endpoints: tuple[str, ...] = ()  # identities, addresses or names
    labels: Mapping[str, str] = {}


class Ask(msgspec.Struct, frozen=True):
    """One operation with its parameters."""

    operation: str
    params: Mapping[str, Any] = {}


class RunSpec(msgspec.Struct, frozen=True):
    """The request for a run."""

    asks: tuple[Ask, ...]
    target: Target
    order: Order = Order.ROLLING
    max_unavailable: int = 1
    keep_available: int = 1  # endpoints of each model that can take requests, at every moment
    drain_seconds: float = 30.0
    call_seconds: float = 300.0  # the longest that one call to an engine may take
    timeout_seconds: float = 3600.0  # after which no further endpoint is begun
    force: bool = False
    exempt: frozenset[str] = frozenset()  # models that `force` leaves without an endpoint

    @property
    def recipe(self) -> Recipe:
        """The calls at each endpoint."""
        return recipe_of([(one.operation, one.params) for one in self.asks])


class Answer(msgspec.Struct, frozen=True):
    """An engine's answer, or why there is none."""

    status: int = 0  # 0: there is none
    body: str = ""  # its beginning
    failure: str = ""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether the engine says that it has done it."""
        return 200 <= self.status < 300

    @property
    def refused(self) -> bool:
        """Whether the engine says that it has done nothing."""
        return 400 <= self.status < 500

    @property
    def described(self) -> str:
        """For people."""
        return self.failure or f"{self.status} {self.body[:200]}".strip()


class Step(msgspec.Struct, frozen=True):
    """A run at one endpoint. Times are seconds since the epoch, by the database's clock."""

    identity: str
    address: str
    name: str
    models: tuple[str, ...] = ()
    phase: Phase = Phase.PENDING
    was_available: bool = False  # whether it could take requests when it was begun
    call: int = 0  # which call of the recipe
    undoing: bool = False  # whether the call is the one that brings the engine back
    unsure: bool = False  # whether nobody knows if the call was made: its process has died
    ends_as: Phase | None = None  # the work is over: only its cordon has to end
    settled_at: float = 0.0  # when the cordon may end
    cordon_version: int = 0  # 0: there is none
    deadline: float = 0.0  # of the phase
    verify_until: float = 0.0  # of the call, however often it is made
    detail: str = ""
    answer: Answer | None = None  # the engine's last one
    started_at: float | None = None
    ended_at: float | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing is left to do."""
        return self.phase in ENDED


class Run(msgspec.Struct, frozen=True):
    """A run with its steps, in the order in which they are begun."""

    id: str
    spec: RunSpec
    steps: tuple[Step, ...]
    status: RunStatus = RunStatus.QUEUED
    created_at: float = 0.0
    created_by: str = ""
    started_at: float | None = None
    ended_at: float | None = None
    cancel_asked: bool = False
    detail: str = ""


class Note(msgspec.Struct, frozen=True):
    """One line of a run's history. `identity` is empty for the run as a whole."""

    at: float
    identity: str
    text: str


def run_object(run: Run, history: Sequence[Note] | None = None) -> dict[str, object]:
    """The object of the API; its history only where it is wanted."""
    spec = run.spec
    body: dict[str, object] = {
        "id": run.id,
        "object": "operation",
        "status": run.status.value,
        "operation": spec.asks[0].operation,
        "params": spec.asks[0].params,
        "then": [{"operation": one.operation, "params": one.params} for one in spec.asks[1:]],
        "target": msgspec.to_builtins(spec.target),
        "order": spec.order.value,
        "max_unavailable": spec.max_unavailable,
        "keep_available": spec.keep_available,
        "drain": {"seconds": spec.drain_seconds},
        "call_timeout": spec.call_seconds,
        "timeout": spec.timeout_seconds,
        "force": spec.force,
        "created_at": int(run.created_at),
        "created_by": run.created_by,
        "started_at": _whole(run.started_at),
        "ended_at": _whole(run.ended_at),
        "cancel_requested": run.cancel_asked,
        "detail": run.detail,
        "counts": counts_of(run),
        "endpoints": [step_object(step) for step in run.steps],
    }
    if history is not None:
        body["history"] = [{"at": one.at, "endpoint": one.identity or None, "text": one.text} for one in history]
    return body


def counts_of(run: Run) -> dict[str, int]:
    """The number of steps in each phase."""
    counts: dict[str, int] = {phase.value: 0 for phase in Phase}
    for step in run.steps:
        counts[step.phase.value] += 1
    return counts


def step_object(step: Step) -> dict[str, object]:
    """One endpoint of the object."""
    answer = step.answer
    return {
        "identity": step.identity,
        "address": step.address,
        "name": step.name,
        "phase": step.phase.value,
        "detail": step.detail,
        "cordoned": step.cordon_version > 0,
        "answer": None if answer is None else {
            "status": answer.status or None, "body": answer.body, "error": answer.failure or None,
            "seconds": round(answer.seconds, 3),
        },
        "started_at": step.started_at,
        "ended_at": step.ended_at,
    }  # fmt: skip


def _whole(at: float | None) -> int | None:
    return None if at is None else int(at)
