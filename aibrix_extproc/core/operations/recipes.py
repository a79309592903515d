"""The calls of a run at one engine: their sequence, how each is verified, and what brings the engine back.

The effects are those of vLLM 0.32 and 0.33: a sleeping or paused engine takes no requests, and only the operation that
is named here as its end ends it.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

import msgspec


class Effect(StrEnum):
    """The effect of a call on the engine's ability to take requests."""

    NONE = "none"
    TAKES = "takes"  # it takes no requests afterwards
    GIVES = "gives"  # it takes requests again


class Check(StrEnum):
    """The verification of a call: the engine's own word after it, or its answer alone."""

    ANSWER = "answer"
    ASLEEP = "asleep"
    AWAKE = "awake"
    PAUSED = "paused"
    RESUMED = "resumed"
    SUCCESS = "success"  # its answer says {"success": true}; false is tried again
    VERSION = "version"  # /weight_info names the version


class Call(msgspec.Struct, frozen=True):
    """One call to an engine. `redo_from` is the call to begin with again if nobody knows whether this one was made."""

    operation: str
    params: Mapping[str, Any] = MappingProxyType({})
    check: Check = Check.ANSWER
    redo_from: int = 0
    taints: bool = False  # if it fails, the engine is in an unknown state and must not take requests


class Recipe(msgspec.Struct, frozen=True):
    """The calls of a run at each endpoint, in order."""

    calls: tuple[Call, ...]
    disturbs: bool  # whether requests must be kept away from the endpoint meanwhile

    @property
    def leaves_available(self) -> bool:
        """Whether the endpoint may take requests at the end, as far as these calls decide it."""
        return self.taken_after(len(self.calls) - 1) is None

    def taken_after(self, last: int) -> str | None:
        """The operation by which the endpoint takes no requests after the calls up to this one; None: it takes them."""
        taken = None
        for call in self.calls[: last + 1]:
            row = ROWS[call.operation]
            if row.effect is not Effect.NONE:
                taken = call.operation if row.effect is Effect.TAKES else None
        return taken

    def undo_after(self, last: int) -> Call | None:
        """The call that brings the endpoint back when the call `last` failed; None if there is nothing to undo."""
        taken = self.taken_after(last)
        if taken is None and last >= 0 and ROWS[self.calls[last].operation].effect is Effect.GIVES:
            taken = self.taken_after(last - 1)
        return None if taken is None else call_of(ROWS[taken].undo, {}, 0)


class Row(msgspec.Struct, frozen=True):
    """One operation that a run may apply."""

    disturbs: bool  # requests that run at the engine suffer, or new ones wait
    effect: Effect = Effect.NONE
    check: Check = Check.ANSWER
    undo: str = ""  # of one that takes: the operation that gives
    defaults: Mapping[str, Any] = MappingProxyType({})
    alone: bool = False  # it is a sequence already: no other operation may follow
    taints: bool = False
    right: str = ""  # the operation that an operator must be allowed, if it has another name


_GENTLE: Final[Mapping[str, Any]] = MappingProxyType({"mode": "wait"})  # requests that still run are let end

ROWS: Final[Mapping[str, Row]] = MappingProxyType(
    {
        "sleep": Row(True, Effect.TAKES, Check.ASLEEP, "wake_up", _GENTLE),
        "wake_up": Row(False, Effect.GIVES, Check.AWAKE),
        "pause": Row(True, Effect.TAKES, Check.PAUSED, "resume", _GENTLE),
        "resume": Row(False, Effect.GIVES, Check.RESUMED),
        "reset_prefix_cache": Row(False, check=Check.SUCCESS),
        "reset_mm_cache": Row(False),
        "reset_encoder_cache": Row(False),
        "abort_requests": Row(True),
        "start_profile": Row(False),
        "stop_profile": Row(False),
        "start_weight_update": Row(True, taints=True),
        "update_weights": Row(True, taints=True),
        "finish_weight_update": Row(True, check=Check.VERSION, taints=True),
        "update_weight_version": Row(True, check=Check.VERSION),
        "rolling_weight_update": Row(True, alone=True, right="update_weights"),
    }
)
# Operations that only occur inside of the weight update.
INNER: Final = frozenset({"start_weight_update", "update_weights", "finish_weight_update"})
NAMES: Final = tuple(name for name in ROWS if name not in INNER)


def call_of(operation: str, params: Mapping[str, Any], place: int) -> Call:
    """A call with its row's defaults and its way to be verified, at this place of a recipe."""
    row = ROWS[operation]
    return Call(operation, {**row.defaults, **params}, row.check, place, row.taints)


def recipe_of(steps: Sequence[tuple[str, Mapping[str, Any]]]) -> Recipe:
    """The recipe for operations in order. All are rows of ROWS; one that is a sequence stands alone."""
    if len(steps) == 1 and ROWS[steps[0][0]].alone:
        return weight_update(steps[0][1])
    calls = tuple(call_of(name, params, place) for place, (name, params) in enumerate(steps))
    return Recipe(calls, any(ROWS[name].disturbs for name, _ in steps))


def weight_update(params: Mapping[str, Any]) -> Recipe:
    """Pause, transfer the weights, name their version, resume.

    `params`: `weight_version`; `updates`, a list of `update_info` as the engine's weight transfer wants them; `start`,
    the parameters of start_weight_update. Without updates only the version is named.
    """
    version = params["weight_version"]
    updates: Sequence[Mapping[str, Any]] = params.get("updates") or ()
    calls = [call_of("pause", {}, 0)]
    if updates:
        calls.append(call_of("start_weight_update", params.get("start") or {}, 1))
        calls += [call_of("update_weights", {"update_info": info}, 1) for info in updates]
        calls.append(call_of("finish_weight_update", {"weight_version": version}, 1))
    else:
        calls.append(call_of("update_weight_version", {"new_version": version}, 1))
    calls.append(call_of("reset_prefix_cache", {}, len(calls)))
    calls.append(call_of("resume", {}, len(calls)))
    return Recipe(tuple(calls), disturbs=True)
