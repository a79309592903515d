"""The state machine of one endpoint's step: what to do next, and what follows from what happened.

`act_of` says what has to be done for a step now. Whoever does it stores the step before it begins, and gives the result
to `after`, which returns the next state and the words for the history. Every act may be repeated, so a process that
takes over begins with `resumed` and goes on.
"""

from enum import StrEnum
from typing import Final

import msgspec
from msgspec.structs import replace

from aibrix_extproc.core.operations.draining import Drain
from aibrix_extproc.core.operations.recipes import Call, Check
from aibrix_extproc.core.operations.records import ACTIVE, Answer, Phase, RunSpec, Step

VERIFY_SECONDS: Final = 60.0  # the longest that an engine is asked whether a call has had its effect
SETTLE_SECONDS: Final = 3.0  # gateways need this long at most to notice that an engine takes no requests
SETTLE_LONGEST_SECONDS: Final = 15.0  # if our own poll does not notice it either


class Act(StrEnum):
    """The next action of a step."""

    CORDON = "cordon"
    DRAIN = "drain"  # read the reports of the gateways
    CALL = "call"
    CHECK = "check"
    UNCORDON = "uncordon"


class Begun(msgspec.Struct, frozen=True):
    """The step's turn has come."""

    was_available: bool = True


class Cordoned(msgspec.Struct, frozen=True):
    """Its cordon is stored."""

    version: int


class Drained(msgspec.Struct, frozen=True):
    """The gateways have reported."""

    drain: Drain


class Answered(msgspec.Struct, frozen=True):
    """The engine was called."""

    answer: Answer


class Checked(msgspec.Struct, frozen=True):
    """The engine was asked for the effect of the call. `detail`: what it said instead."""

    ok: bool
    detail: str = ""


class Uncordoned(msgspec.Struct, frozen=True):
    """Its cordon is removed."""


class Dropped(msgspec.Struct, frozen=True):
    """Its turn will not come, or its drain is given up; nothing was done at the engine."""

    why: str


class Resumed(msgspec.Struct, frozen=True):
    """Another process goes on: what the one before was doing may have happened or not.

    `lapsed`: the cordon has ended meanwhile, so the endpoint may have requests again.
    """

    owner: str
    lapsed: bool = False


Event = Begun | Cordoned | Drained | Answered | Checked | Uncordoned | Dropped | Resumed
Next = tuple[Step, str]  # the state, and words for the history, or none


def act_of(spec: RunSpec, step: Step, now: float, *, takes_requests: bool) -> Act | None:
    """The next action of a step that has begun. `takes_requests`: whether our own polls find its engine ready."""
    if step.phase not in ACTIVE:
        return None
    if step.ends_as is not None:
        return Act.UNCORDON if _is_settled(spec, step, now, takes_requests=takes_requests) else None
    match step.phase:
        case Phase.DRAINING:
            return Act.DRAIN if step.cordon_version else Act.CORDON
        case Phase.RUNNING:
            return Act.CALL
        case _:
            return Act.CHECK


def _is_settled(spec: RunSpec, step: Step, now: float, *, takes_requests: bool) -> bool:
    """A cordon ends only when gateways know that an engine was left asleep: they would send requests to it."""
    if now < step.settled_at:
        return False
    left_asleep = step.ends_as in (Phase.DONE, Phase.FAILED) and spec.recipe.taken_after(step.call) is not None
    return not (left_asleep and takes_requests) or now >= step.settled_at + SETTLE_LONGEST_SECONDS


def is_untouched(step: Step) -> bool:
    """Whether no call was made to the engine yet."""
    return step.phase is Phase.PENDING or (step.phase is Phase.DRAINING and step.ends_as is None and not step.unsure)


def current_call(spec: RunSpec, step: Step) -> Call:
    """The call that a step is at."""
    call = spec.recipe.undo_after(step.call) if step.undoing else spec.recipe.calls[step.call]
    if call is None:
        raise ValueError("nothing is to be undone")
    return call


def after(spec: RunSpec, step: Step, event: Event, now: float) -> Next:  # noqa: C901 (one line for each event)
    """The step after an event. An event that does not fit its state changes nothing."""
    if step.ended:
        return step, ""
    match event:
        case Begun(was_available) if step.phase is Phase.PENDING:
            return _begun(spec, replace(step, was_available=was_available, started_at=now), now)
        case Cordoned(version) if step.phase is Phase.DRAINING:
            return replace(step, cordon_version=version), "cordoned"
        case Drained(drain) if step.phase is Phase.DRAINING and step.ends_as is None:
            return _drained(spec, step, drain, now)
        case Answered(answer) if step.phase is Phase.RUNNING and step.ends_as is None:
            return _answered(spec, step, answer, now)
        case Checked(ok, detail) if step.phase is Phase.VERIFYING and step.ends_as is None:
            return _checked(spec, step, now, ok=ok, detail=detail)
        case Uncordoned() if step.ends_as is not None:
            return replace(step, phase=step.ends_as, cordon_version=0, ended_at=now), step.ends_as.value
        case Dropped(why) if step.phase is Phase.PENDING:
            return replace(step, phase=Phase.CANCELLED, detail=why, ended_at=now), f"cancelled: {why}"
        case Dropped(why) if is_untouched(step):
            return _ending(spec, step, Phase.CANCELLED, now, why)
        case Resumed(owner, lapsed):
            return _resumed(spec, step, owner, now, lapsed=lapsed)
    return step, ""


def _begun(spec: RunSpec, step: Step, now: float) -> Next:
    if spec.recipe.disturbs:
        return replace(step, phase=Phase.DRAINING, deadline=now + spec.drain_seconds), "draining"
    return _calling(spec, step, 0, now)


def _drained(spec: RunSpec, step: Step, drain: Drain, now: float) -> Next:
    if not drain.complete and now < step.deadline:
        return replace(step, detail=drain.described), ""
    how = "drained" if drain.complete else f"drain time is over: {drain.described}"
    if step.unsure:
        return replace(
            step, phase=Phase.VERIFYING, deadline=now + VERIFY_SECONDS, detail=""
        ), f"{how}; asking the engine"
    begun, text = _calling(spec, replace(step, detail=""), 0, now)
    return begun, f"{how}; {text}"


def _calling(spec: RunSpec, step: Step, number: int, now: float) -> Next:
    call = spec.recipe.calls[number]
    text = f"calling {call.operation} ({number + 1} of {len(spec.recipe.calls)})"
    deadline = now + spec.call_seconds
    begun = replace(
        step, phase=Phase.RUNNING, call=number, unsure=False, deadline=deadline, verify_until=0.0, detail=""
    )
    return begun, text


def _answered(spec: RunSpec, step: Step, answer: Answer, now: float) -> Next:
    step = replace(step, answer=answer)
    operation = current_call(spec, step).operation
    if answer.ok:
        until = step.verify_until or now + min(VERIFY_SECONDS, spec.call_seconds)
        verifying = replace(step, phase=Phase.VERIFYING, deadline=until, verify_until=until)
        return verifying, f"{operation} answered {answer.described}"
    return _failed(spec, step, now, f"{operation} failed: {answer.described}")


def _checked(spec: RunSpec, step: Step, now: float, *, ok: bool, detail: str) -> Next:
    call = current_call(spec, step)
    if not ok and step.unsure:
        if step.undoing:
            return replace(
                step, phase=Phase.RUNNING, unsure=False, deadline=now + spec.call_seconds
            ), "calling it again"
        return _calling(spec, step, call.redo_from, now)
    if not ok and now < step.deadline:
        if call.check is Check.SUCCESS:  # its answer is the only proof: ask for the same again
            return replace(step, phase=Phase.RUNNING, detail=detail), ""
        return replace(step, detail=detail), ""
    if not ok:
        return _failed(spec, step, now, f"{call.operation} could not be verified: {detail}")
    if step.undoing:
        return _ending(spec, step, Phase.ROLLED_BACK, now, step.detail)
    if step.call + 1 < len(spec.recipe.calls):
        following, text = _calling(spec, step, step.call + 1, now)
        return following, f"{call.operation} verified; {text}"
    return _ending(spec, replace(step, detail=""), Phase.DONE, now, "")


def _failed(spec: RunSpec, step: Step, now: float, why: str) -> Next:
    """Bring the engine back, unless that failed too, nothing is to be undone, or its state is unknown."""
    if step.undoing:
        return _ending(spec, step, Phase.FAILED, now, f"{step.detail}; and {why}"[:500])
    call = spec.recipe.calls[step.call]
    refused = step.answer is not None and step.answer.refused and step.phase is Phase.RUNNING
    if call.taints and not refused:
        return _ending(
            spec, step, Phase.FAILED, now, f"{why}; it is left paused, as its weights may be incomplete"[:500]
        )
    undo = spec.recipe.undo_after(step.call)
    if undo is None or (refused and spec.recipe.undo_after(step.call - 1) is None):
        return _ending(spec, step, Phase.FAILED, now, why)
    undoing = replace(
        step, phase=Phase.RUNNING, undoing=True, unsure=False, deadline=now + spec.call_seconds, verify_until=0.0,
        detail=why[:400],
    )  # fmt: skip
    return undoing, f"{why}; calling {undo.operation} to bring it back"


def _ending(spec: RunSpec, step: Step, phase: Phase, now: float, why: str) -> Next:
    """The work is over. A step that has, or may have, a cordon ends with it."""
    text = f"{phase.value}: {why}" if why else phase.value
    step = replace(step, detail=why, unsure=False)
    if not spec.recipe.disturbs:
        return replace(step, phase=phase, ended_at=now), text
    settle = SETTLE_SECONDS if phase in (Phase.DONE, Phase.FAILED) else 0.0
    return replace(step, ends_as=phase, settled_at=now + settle), f"{text}; its cordon ends"


def _resumed(spec: RunSpec, step: Step, owner: str, now: float, *, lapsed: bool) -> Next:
    """Repeats acts that have no result yet; before a call is repeated the engine is asked whether it was made."""
    if step.phase not in ACTIVE:
        return step, ""
    text = f"{owner} goes on"
    if step.ends_as is not None:
        return step, f"{text} with ending its cordon"
    if step.phase is Phase.DRAINING:
        return replace(step, cordon_version=0), f"{text} with a new cordon"
    if lapsed and spec.recipe.disturbs:
        deadline = now + spec.drain_seconds
        draining = replace(step, phase=Phase.DRAINING, cordon_version=0, unsure=True, deadline=deadline)
        return draining, f"{text}: the cordon had ended, so the endpoint is drained again"
    if step.phase is Phase.RUNNING:
        checking = replace(step, phase=Phase.VERIFYING, unsure=True, deadline=now + VERIFY_SECONDS)
        return checking, f"{text}: nobody knows whether the call was made, so the engine is asked"
    return replace(step, deadline=now + VERIFY_SECONDS), f"{text} with verifying"
