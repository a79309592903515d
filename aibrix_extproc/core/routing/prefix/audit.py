"""Compares the index with what engines report: predicted and real `cached_tokens` of each answer.

The ratio of their sums scales what the index says of an endpoint. The size that its cache is believed to have follows
the direction of the error, between bounds. An endpoint of which next to nothing is found in its cache has lost it.
Engines report nothing if nothing was cached, and nothing if they are not told to report it (vLLM:
`--enable-prompt-tokens-details`). So an answer without the number counts as 0 once any engine of the model gave one,
but for an engine that never gave one and whose metrics say that it finds something: that one is not told to report.
"""

from typing import Final

MANY_TOKENS: Final = 512  # smaller differences are of blocks that are not full
_FORGET: Final = 0.1
_FIRST_TOKENS: Final = 2_000.0  # the weight of the belief that the index is right
LOST_AFTER: Final = 6  # answers in a row with next to nothing of what was predicted
LOST_SHARE: Final = 0.1
_SHRINK, _GROW = 0.97, 1.02
_SMALLEST, _LARGEST = 1 / 16, 4.0  # of what is reported or assumed
MAX_GROUPS: Final = 1_000


class _Sums:
    __slots__ = ("actual", "factor", "found", "missed", "predicted", "reports")

    def __init__(self) -> None:
        self.predicted = self.actual = _FIRST_TOKENS
        self.found = False  # whether any of what was predicted was there since it was lost last
        self.factor = 1.0
        self.missed = 0
        self.reports = False  # whether it has ever reported cached tokens


class Audit:
    """By identity. Engines are compared with those of the same group, which is a model."""

    def __init__(self) -> None:
        self._sums: dict[str, _Sums] = {}
        self._telling: dict[str, None] = {}  # groups of which an engine has reported cached tokens
        self.predicted_tokens = 0.0  # of all answers, for metrics
        self.actual_tokens = 0.0

    def report(self, identity: str, group: str, predicted: float, actual: float, *, finds: bool = False) -> bool:
        """An answer reported its cached tokens, 0 if it did not. Returns whether the endpoint has lost its cache.

        `finds`: the engine's metrics say that it has found something in its cache.
        """
        sums = self._sums.get(identity)
        if sums is None:
            sums = self._sums[identity] = _Sums()
        if actual > 0:
            sums.reports = True
            if len(self._telling) < MAX_GROUPS:
                self._telling[group] = None
        elif group not in self._telling or (finds and not sums.reports):
            return False
        self.predicted_tokens += predicted
        self.actual_tokens += actual
        keep = 1.0 - _FORGET * predicted / (predicted + MANY_TOKENS)
        sums.predicted = sums.predicted * keep + predicted
        sums.actual = sums.actual * keep + min(actual, predicted)
        if predicted > actual + MANY_TOKENS:
            sums.factor = max(sums.factor * _SHRINK, _SMALLEST)
        elif actual > predicted + MANY_TOKENS:
            sums.factor = min(sums.factor * _GROW, _LARGEST)
        if predicted < MANY_TOKENS:
            return False
        if actual >= LOST_SHARE * predicted:
            sums.missed, sums.found = 0, True
            return False
        sums.missed += 1
        return sums.missed >= LOST_AFTER

    def confidence(self, identity: str) -> float:
        """The share of what the index says that an endpoint probably has, from 0 to 1."""
        sums = self._sums.get(identity)
        return 1.0 if sums is None else sums.actual / sums.predicted

    def factor(self, identity: str) -> float:
        """How many times as large as reported the cache of an endpoint seems to be."""
        sums = self._sums.get(identity)
        return 1.0 if sums is None else sums.factor

    def remember(self, identity: str, factor: float) -> None:
        """The factor that another process has found, of an engine that nothing is known of here."""
        if identity not in self._sums and factor != 1.0:
            sums = self._sums[identity] = _Sums()
            sums.factor = factor

    def lost(self, identity: str) -> None:
        """The endpoint has lost its cache, so what the index says of it from now on may be right again.

        Unless nothing was found since it was lost before: then it probably keeps nothing, and stays doubtful.
        """
        sums = self._sums.get(identity)
        if sums is not None and sums.found:
            del self._sums[identity]
        elif sums is not None:
            sums.missed = 0

    def forget(self, identity: str) -> None:
        """The endpoint is gone, or begins anew."""
        self._sums.pop(identity, None)
