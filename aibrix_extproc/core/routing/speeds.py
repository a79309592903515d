"""How fast each engine is, learned from the times of its answers: prefill and decode.

Each answer gives a lower bound of its engine's speed: what was computed in a time of which a part may have been rest.
So the speed is an upper quantile of the latest bounds. Not the highest: prompts that share a step end together, and
some of them seem to be quicker than they are.
"""

from collections import deque
from statistics import median
from typing import Final

from aibrix_extproc.core.routing.engine import Engine

FIRST_SPEED: Final = 8_000.0  # tokens a second, until any engine of the model is known
FIRST_STEP: Final = 0.02  # seconds for a token of an answer
BOUND: Final = 8.0  # no engine is believed to be more than so many times faster or slower than the median
MAX_GROUPS: Final = 1_000  # base models
_LATEST: Final = 48  # bounds of one engine
_QUANTILE: Final = 0.75
_STEP_WEIGHT: Final = 0.1
_REMEMBERED: Final = 8  # bounds that what was learned before counts as
MAX_REMEMBERED: Final = 2_000
_FEW_TOKENS: Final = 8  # of an answer, too few to tell the time of a step
_RENEW: Final = 32  # samples of a group after which its median is computed anew; at first after each


class _Shown:
    __slots__ = ("bounds", "engine", "pace", "samples", "step")

    def __init__(self, engine: Engine, pace: float, step: float) -> None:
        self.engine = engine
        self.bounds: deque[float] = deque(maxlen=_LATEST)
        self.pace = pace
        self.step = step
        self.samples = 0


class _Group:
    __slots__ = ("members", "pace", "samples", "step")

    def __init__(self) -> None:
        self.members: dict[str, _Shown] = {}
        self.samples = 0
        self.pace = 1 / FIRST_SPEED  # the medians
        self.step = FIRST_STEP


class Speeds:
    """Writes the paces of engines. They are compared with those of the same group, which is a base model."""

    def __init__(self) -> None:
        self._shown: dict[str, _Shown] = {}
        self._groups: dict[str, _Group] = {}
        self._remembered: dict[str, tuple[float, float]] = {}  # pace and step of engines that are not used yet

    def seen(self, engine: Engine) -> None:
        """An engine is used. Until it is known, its pace is the median of its group."""
        if engine.identity not in self._shown:
            self._of(engine)

    def prefilled(self, engine: Engine, least: float, *, again: bool = False) -> None:
        """An engine has computed at least so many tokens of prompts a second. `again`: in place of what was last told.

        Of a prompt that takes longer than it should it is at most so many, which is less each time.
        """
        if not 0.0 < least < 1e9:
            return
        of, shown = self._of(engine)
        if again and shown.bounds:
            shown.bounds.pop()
        shown.bounds.append(least)
        shown.pace = 1.0 / sorted(shown.bounds)[int(len(shown.bounds) * _QUANTILE)]
        shown.samples += 1
        of.samples += 1
        if of.samples < _RENEW or of.samples % _RENEW == 0:
            _renew(of)
        engine.pace = min(max(shown.pace, of.pace / BOUND), of.pace * BOUND)

    def decoded(self, engine: Engine, tokens: float, seconds: float) -> None:
        """An engine has written so many tokens after the first of an answer in this time."""
        if tokens >= _FEW_TOKENS and 0.0 < seconds < 1e6:
            _, shown = self._of(engine)
            sample = min(max(seconds / tokens, shown.step / 4), shown.step * 4)
            shown.step += _STEP_WEIGHT * (sample - shown.step)

    def step(self, engine: Engine) -> float:
        """Seconds for a token of an answer."""
        shown = self._shown.get(engine.identity)
        return self.middle_step(engine.group) if shown is None else shown.step

    def middle_step(self, group: str) -> float:
        """The median of the same of a group."""
        of = self._groups.get(group)
        return FIRST_STEP if of is None else of.step

    def is_known(self, group: str) -> bool:
        """Whether anything was learned of any engine of a group."""
        of = self._groups.get(group)
        return of is not None and of.samples > 0

    def known(self) -> list[tuple[str, float]]:
        """Identities of engines that something was learned of, with their speeds in tokens of a prompt a second."""
        return [(identity, 1.0 / shown.engine.pace) for identity, shown in self._shown.items() if shown.samples]

    def groups(self) -> list[tuple[str, float, float]]:
        """Groups that something was learned of, with their medians of pace and step."""
        return [(name, of.pace, of.step) for name, of in self._groups.items() if of.samples]

    def engines(self) -> list[tuple[str, str, float, float]]:
        """The same of engines: identity, group, pace and step."""
        return [(name, one.engine.group, one.pace, one.step) for name, one in self._shown.items() if one.samples]

    def remember_group(self, group: str, pace: float, step: float) -> None:
        """What another process has learned of a group, if nothing is known of it here."""
        of = self._groups.get(group)
        if of is None and len(self._groups) < MAX_GROUPS:
            of = self._groups[group] = _Group()
        if of is not None and not of.samples:
            of.pace, of.step, of.samples = pace, step, 1
            for one in of.members.values():
                if not one.samples:
                    one.engine.pace, one.pace, one.step = pace, pace, step

    def remember(self, identity: str, pace: float, step: float) -> None:
        """The same of an engine, which may not be used yet."""
        shown = self._shown.get(identity)
        if shown is not None:
            self._resume(shown, pace, step)
        elif len(self._remembered) < MAX_REMEMBERED:
            self._remembered[identity] = pace, step

    def _resume(self, shown: _Shown, pace: float, step: float) -> None:
        if not shown.samples:
            of = self._groups[shown.engine.group]
            shown.bounds.extend([1 / pace] * _REMEMBERED)
            shown.pace, shown.step, shown.samples = pace, step, 1
            shown.engine.pace = min(max(pace, of.pace / BOUND), of.pace * BOUND)

    def forget(self, identity: str) -> None:
        """The engine is gone."""
        self._remembered.pop(identity, None)
        if self._shown.pop(identity, None) is not None:
            for of in self._groups.values():
                of.members.pop(identity, None)

    def _of(self, engine: Engine) -> tuple[_Group, _Shown]:
        of = self._groups.get(engine.group)
        if of is None:
            if len(self._groups) >= MAX_GROUPS:
                del self._groups[next(iter(self._groups))]
            of = self._groups[engine.group] = _Group()
        shown = self._shown.get(engine.identity)
        if shown is None:
            shown = self._shown[engine.identity] = _Shown(engine, of.pace, of.step)
            engine.pace = of.pace
            if engine.identity in self._remembered:
                self._resume(shown, *self._remembered.pop(engine.identity))
        of.members[engine.identity] = shown
        return of, shown


def _renew(of: _Group) -> None:
    """Compute the medians, which engines have that nothing is known of."""
    shown = [one for one in of.members.values() if one.samples]
    of.pace = median([one.pace for one in shown])
    of.step = median([one.step for one in shown])
    for one in of.members.values():
        if not one.samples:
            one.engine.pace = of.pace
            one.pace, one.step = of.pace, of.step
