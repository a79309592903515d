"""Which runs may run, which endpoints of a run are begun, and when a run is over.

Availability is what our own polls find: an endpoint counts for a model if it serves it, is ready, and nobody has
cordoned it. Runs that share an endpoint or a model never run at the same time, so `keep_available` is kept by one run's
decisions alone.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from aibrix_extproc.core.operations.records import ACTIVE, RUN_ENDED, Order, Phase, Run, RunSpec, RunStatus
from aibrix_extproc.core.operations.runs import Begun, Dropped, is_untouched

AT_ONCE: Final = 16  # endpoints of a run that are worked on at the same time


class Seen(msgspec.Struct, frozen=True):
    """An endpoint as our own polls find it."""

    identity: str
    models: frozenset[str]
    available: bool  # ready, and not cordoned


View = Mapping[str, Seen]  # by identity


def available(view: View, model: str, without: Collection[str] = ()) -> int:
    """The number of endpoints that can take a request for a model, not counting some."""
    return sum(one.available and model in one.models and one.identity not in without for one in view.values())


def short_models(spec: RunSpec, identities: Sequence[str], view: View) -> frozenset[str]:
    """The models that a run would leave with fewer endpoints than `keep_available`.

    A run that leaves its engines asleep takes all of them, any other one at a time. A model that no endpoint can take
    requests for now loses nothing.
    """
    if not spec.recipe.disturbs:
        return frozenset()
    short = set[str]()
    taken = [view[identity] for identity in identities if identity in view and view[identity].available]
    for model in {name for one in taken for name in one.models}:
        of_model = sum(model in one.models for one in taken)
        most = of_model if not spec.recipe.leaves_available else 1
        if available(view, model) - most < spec.keep_available:
            short.add(model)
    return frozenset(short)


def in_turn(runs: Iterable[Run]) -> list[Run]:
    """Of runs in the order in which they were asked for, those that may run: no earlier one has a part of theirs."""
    endpoints, models = set[str](), set[str]()
    found = []
    for run in runs:
        if run.status in RUN_ENDED:
            continue
        own = {step.identity for step in run.steps}
        own_models = {name for step in run.steps for name in step.models}
        if not (own & endpoints or own_models & models):
            found.append(run)
        endpoints |= own
        models |= own_models
    return found


def plan(run: Run, view: View, now: float) -> list[tuple[int, Begun | Dropped]]:
    """The steps to begin or to drop now, by their numbers."""
    why = _why_over(run, now)
    if why:
        return [(number, Dropped(why)) for number, step in enumerate(run.steps) if is_untouched(step)]
    found: list[tuple[int, Begun | Dropped]] = []
    begun = {step.identity for step in run.steps if step.phase in ACTIVE}
    room = _room(run, view, len(begun))
    for number, step in enumerate(run.steps):
        if step.phase is not Phase.PENDING:
            continue
        if step.identity not in view:
            found.append((number, Dropped("the endpoint has left the fleet")))
        elif room > 0 and _may_be_taken(run.spec, view[step.identity], view, begun):
            begun.add(step.identity)
            room -= 1
            found.append((number, Begun(view[step.identity].available)))
    return found


def _why_over(run: Run, now: float) -> str:
    """Why no further endpoint is begun; empty if more may be."""
    if run.cancel_asked:
        return "the run was cancelled"
    if run.started_at is not None and now >= run.started_at + run.spec.timeout_seconds:
        return "the time of the run is over"
    failed = next((step for step in run.steps if step.phase in (Phase.FAILED, Phase.ROLLED_BACK)), None)
    if failed is not None and run.spec.order is Order.ROLLING:
        return f"{failed.name or failed.address} failed before it"
    return ""


def _room(run: Run, view: View, active: int) -> int:
    """The number of further endpoints that may be worked on.

    In rolling order an endpoint that is done, and does not take requests again yet, still counts as unavailable.
    """
    if run.spec.order is Order.ALL:
        return AT_ONCE - active
    recovering = 0
    if run.spec.recipe.disturbs and run.spec.recipe.leaves_available:
        done = [step.identity for step in run.steps if step.phase is Phase.DONE and step.was_available]
        recovering = sum(identity in view and not view[identity].available for identity in done)
    return min(run.spec.max_unavailable, AT_ONCE) - active - recovering


def _may_be_taken(spec: RunSpec, endpoint: Seen, view: View, begun: Collection[str]) -> bool:
    """Whether enough other endpoints can take the requests of each of its models."""
    if not spec.recipe.disturbs or not endpoint.available:
        return True
    others = {*begun, endpoint.identity}
    return all(
        available(view, model, others) >= spec.keep_available for model in endpoint.models if model not in spec.exempt
    )


def status_of(run: Run, now: float) -> RunStatus:
    """The status that follows from the steps."""
    if not all(step.ended for step in run.steps):
        return RunStatus.CANCELLING if run.cancel_asked else RunStatus.RUNNING
    phases = {step.phase for step in run.steps}
    expired = run.started_at is not None and now >= run.started_at + run.spec.timeout_seconds
    dropped = Phase.CANCELLED in phases
    if phases & {Phase.FAILED, Phase.ROLLED_BACK} or (dropped and expired and not run.cancel_asked):
        return RunStatus.FAILED
    return RunStatus.CANCELLED if run.cancel_asked and dropped else RunStatus.SUCCEEDED
