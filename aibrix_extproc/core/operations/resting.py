"""Decides which engines are put to sleep and which are woken, by the policies of their models.

The decision is made anew from what is seen now. It is safe for groups whatever is seen: an engine is woken only if
every engine of the other models of its group is known to hold no memory of the GPU, that is asleep or gone.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from aibrix_extproc.core.operations.policies import ModelPolicy

DEMAND_SECONDS: Final = 30.0  # so long a request for a sleeping model counts after it was last asked for


class Rest(StrEnum):
    """The state of an engine, as policies see it."""

    AWAKE = "awake"
    ASLEEP = "asleep"
    GONE = "gone"  # its process does not answer at all
    UNKNOWN = "unknown"  # it may be awake


@dataclass(frozen=True, slots=True)
class EngineRest:
    """One engine as it is now."""

    identity: str
    models: frozenset[str]  # that it serves
    rest: Rest
    is_cordoned: bool = False  # by somebody else, who may do with it what we must not disturb
    is_changing: bool = False  # whether it is being put to sleep or woken by us
    in_flight: int | None = None  # requests over all gateways; None: not known
    idle_seconds: float | None = None  # since the end of its last request; None: not known
    awake_seconds: float = float("inf")  # since we woke it

    @property
    def is_free(self) -> bool:
        """Whether it may be put to sleep or woken now."""
        return not (self.is_cordoned or self.is_changing)

    @property
    def holds_memory(self) -> bool:
        """Whether it may hold memory of the GPU: it does while it goes to sleep or wakes, too."""
        return self.rest in (Rest.AWAKE, Rest.UNKNOWN) or self.is_changing


class Verb(StrEnum):
    """The action at an engine."""

    SLEEP = "sleep"
    WAKE = "wake"


@dataclass(frozen=True, slots=True)
class Turn:
    """One engine to be put to sleep or woken."""

    verb: Verb
    identity: str
    policy: ModelPolicy


def turns(
    policies: Mapping[str, ModelPolicy], engines: Iterable[EngineRest], demands: Mapping[str, float]
) -> tuple[Turn, ...]:
    """The actions to take now. `demands`: model -> seconds since requests were first refused or held for it."""
    seen = sorted(engines, key=lambda one: one.identity)
    of_model = {name: [one for one in seen if name in one.models] for name in policies}
    found: list[Turn] = []
    for name, policy in sorted(policies.items()):
        if not policy.group:
            found += _wakes(policy, of_model[name], name in demands)
        found += _idle(policy, of_model[name])
    for group in sorted({policy.group for policy in policies.values() if policy.group}):
        members = {name: policy for name, policy in policies.items() if policy.group == group}
        found += _group(members, of_model, demands)
    once: dict[str, Turn] = {}
    for turn in found:
        once.setdefault(turn.identity, turn)
    return tuple(once.values())


def _wakes(policy: ModelPolicy, engines: list[EngineRest], demanded: bool) -> Iterable[Turn]:
    """The next engines of a model, if a request waits for it or those that are awake are busy."""
    awake = [one for one in engines if one.rest is Rest.AWAKE]
    if not policy.wake_on_request:
        return
    if not awake:
        wanted = max(1, policy.min_awake) if demanded else 0
    else:
        wanted = int(all(one.in_flight is not None and one.in_flight >= policy.busy_in_flight for one in awake))
    # One that wakes already counts.
    wanted -= sum(one.is_changing and one.rest is not Rest.AWAKE for one in engines)
    asleep = [one for one in engines if one.rest is Rest.ASLEEP and one.is_free]
    for one in asleep[: max(0, wanted)]:
        yield Turn(Verb.WAKE, one.identity, policy)


def _idle(policy: ModelPolicy, engines: list[EngineRest]) -> Iterable[Turn]:
    if policy.idle_sleep_seconds is None:
        return
    awake = [one for one in engines if one.rest is Rest.AWAKE]
    spare = sum(one.is_free for one in awake) - policy.min_awake
    for one in reversed(awake):
        is_idle = one.in_flight == 0 and one.idle_seconds is not None and one.idle_seconds >= policy.idle_sleep_seconds
        if spare > 0 and is_idle and one.is_free and one.awake_seconds >= policy.idle_sleep_seconds:
            spare -= 1
            yield Turn(Verb.SLEEP, one.identity, policy)


def _group(
    members: Mapping[str, ModelPolicy], of_model: Mapping[str, list[EngineRest]], demands: Mapping[str, float]
) -> Iterable[Turn]:
    """One member holds the group's GPUs; the one that has waited longest is next."""
    holders = [name for name in sorted(members) if any(one.holds_memory for one in of_model[name])]
    waiting = sorted(
        (name for name in members if name in demands and members[name].wake_on_request and name not in holders),
        key=lambda name: (-demands[name], name),
    )
    if not holders:
        yield from (turn for name in waiting[:1] for turn in _all(Verb.WAKE, members[name], of_model[name]))
        return
    keeper = min(holders, key=lambda name: (_idleness(of_model[name]), name))
    stays = not waiting or _awake_seconds(of_model[keeper]) < members[keeper].hold_seconds
    for name in holders:
        if name != keeper or not stays:
            yield from _all(Verb.SLEEP, members[name], of_model[name])
    if stays and holders == [keeper] and keeper in demands:
        yield from _all(Verb.WAKE, members[keeper], of_model[keeper])


def _all(verb: Verb, policy: ModelPolicy, engines: list[EngineRest]) -> Iterable[Turn]:
    before = Rest.ASLEEP if verb is Verb.WAKE else Rest.AWAKE
    return (Turn(verb, one.identity, policy) for one in engines if one.rest is before and one.is_free)


def _idleness(engines: list[EngineRest]) -> float:
    return min((one.idle_seconds for one in engines if one.idle_seconds is not None and one.holds_memory), default=0.0)


def _awake_seconds(engines: list[EngineRest]) -> float:
    return min((one.awake_seconds for one in engines if one.rest is Rest.AWAKE), default=float("inf"))
