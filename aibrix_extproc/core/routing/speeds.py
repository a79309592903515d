"""How fast each engine is, learned from the times of its answers: prefill and decode.

The speed of prefill is a ratio of sums: tokens over the time in which the engine worked on them. Prompts that an engine
takes into one step end together, so a single one of them says nothing, but their sums are right.
"""

from statistics import median
from typing import Final

from aibrix_extproc.core.routing.engine import Engine

FIRST_SPEED: Final = 8_000.0  # tokens a second, until any engine of the model is known
FIRST_STEP: Final = 0.02  # seconds for a token of an answer
BOUND: Final = 8.0  # no engine is believed to be more than so many times faster or slower than the median
MAX_GROUPS: Final = 1_000  # models
_FORGET: Final = 0.1  # of the sums, with each sample of many tokens
_MANY_TOKENS: Final = 512.0
_FIRST_SECONDS: Final = 0.05  # the weight of the first guess
_LONGEST: Final = 8.0  # times as long as expected: the most that one sample counts
_STEP_WEIGHT: Final = 0.1
_FEW_TOKENS: Final = 8  # of an answer, too few to tell the time of a step
_RENEW: Final = 32  # samples of a group after which its median is computed anew; at first after each


class _Sums:
    __slots__ = ("engine", "samples", "seconds", "step", "tokens")

    def __init__(self, engine: Engine, pace: float, step: float) -> None:
        self.engine = engine
        self.tokens = _FIRST_SECONDS / pace
        self.seconds = _FIRST_SECONDS
        self.step = step
        self.samples = 0


class _Group:
    __slots__ = ("members", "pace", "samples", "step")

    def __init__(self) -> None:
        self.members: dict[str, _Sums] = {}
        self.samples = 0
        self.pace = 1 / FIRST_SPEED  # the medians
        self.step = FIRST_STEP


class Speeds:
    """Writes the paces of engines. They are compared with those of the same group, which is a model."""

    def __init__(self) -> None:
        self._sums: dict[str, _Sums] = {}
        self._groups: dict[str, _Group] = {}

    def seen(self, engine: Engine, group: str) -> None:
        """An engine of this group is used. Until it is known, its pace is the median of the group."""
        if engine.identity not in self._sums:
            self._of(engine, group)

    def prefilled(self, engine: Engine, group: str, tokens: float, seconds: float) -> None:
        """An engine has worked on so many tokens for so long."""
        if not (0.0 < tokens < 1e9 and 0.0 <= seconds < 1e6):
            return
        of, sums = self._of(engine, group)
        expected = tokens * sums.seconds / sums.tokens
        keep = 1.0 - _FORGET * tokens / (tokens + _MANY_TOKENS)
        sums.tokens = sums.tokens * keep + tokens
        sums.seconds = max(sums.seconds * keep + min(seconds, expected * _LONGEST), 1e-9)
        sums.samples += 1
        of.samples += 1
        if of.samples < _RENEW or of.samples % _RENEW == 0:
            _renew(of)
        engine.pace = min(max(sums.seconds / sums.tokens, of.pace / BOUND), of.pace * BOUND)

    def decoded(self, engine: Engine, group: str, tokens: float, seconds: float) -> None:
        """An engine has written so many tokens after the first of an answer in this time."""
        if tokens >= _FEW_TOKENS and 0.0 < seconds < 1e6:
            _, sums = self._of(engine, group)
            sample = min(max(seconds / tokens, sums.step / 4), sums.step * 4)
            sums.step += _STEP_WEIGHT * (sample - sums.step)

    def step(self, identity: str, group: str) -> float:
        """Seconds for a token of an answer."""
        sums = self._sums.get(identity)
        return self.middle_step(group) if sums is None else sums.step

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
        return [(identity, 1.0 / sums.engine.pace) for identity, sums in self._sums.items() if sums.samples]

    def forget(self, identity: str) -> None:
        """The engine is gone."""
        if self._sums.pop(identity, None) is not None:
            for of in self._groups.values():
                of.members.pop(identity, None)

    def _of(self, engine: Engine, group: str) -> tuple[_Group, _Sums]:
        of = self._groups.get(group)
        if of is None:
            if len(self._groups) >= MAX_GROUPS:
                del self._groups[next(iter(self._groups))]
            of = self._groups[group] = _Group()
        sums = self._sums.get(engine.identity)
        if sums is None:
            sums = self._sums[engine.identity] = _Sums(engine, of.pace, of.step)
            engine.pace = of.pace
        of.members[engine.identity] = sums
        return of, sums


def _renew(of: _Group) -> None:
    """Compute the medians, which engines have that nothing is known of."""
    shown = [one for one in of.members.values() if one.samples]
    of.pace = median([one.seconds / one.tokens for one in shown])
    of.step = median([one.step for one in shown])
    for one in of.members.values():
        if not one.samples:
            one.engine.pace = of.pace
            one.tokens, one.seconds, one.step = _FIRST_SECONDS / of.pace, _FIRST_SECONDS, of.step
