"""Scorers by one number that is made of an engine's reading: the lowest is the best.

What is missing refuses no endpoint, and no other strategy takes over without a word. An endpoint without a fresh
reading counts as the mean of its peers, times how many requests of ours it has beside theirs; where none has one, our
own counts decide. The placement says why.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import ClassVar, Final, Generic, NamedTuple, TypeVar

from aibrix_extproc.core.fleet.engine_rates import EngineRates
from aibrix_extproc.core.fleet.gauge_book import GaugeBook
from aibrix_extproc.core.fleet.gauges import EngineGauges, freshness
from aibrix_extproc.core.placing import RouteQuery
from aibrix_extproc.core.routing.pool import Pool
from aibrix_extproc.core.routing.scorer import Scorer
from aibrix_extproc.core.routing.signals import Signals

MAX_KEPT: Final = 50_000  # engines of which a scorer keeps what it has made of their readings
_TIE: Final = 1e-6
_MOST_REQUESTS: Final = 900.0

Measure = TypeVar("Measure")


class Degradation(StrEnum):
    """What a scorer would need and does not have."""

    __hash__ = str.__hash__

    NO_READINGS = "no_readings"  # no endpoint has a reading that is fresh enough and has the series
    SOME_READINGS = "some_readings"  # some endpoints have none: they count as the mean of the others
    NO_HISTORY = "no_history"  # readings are there, and no request has passed since the first of them
    NO_CALLER = "no_caller"  # a strategy by callers, and the gateway asks for no keys


class _Kept(NamedTuple, Generic[Measure]):
    """What a scorer makes of a reading, once."""

    reading: EngineGauges
    others: float  # requests that are not ours
    has_series: bool
    measure: Measure | None


class Measured(Scorer, Generic[Measure]):
    """`name` is the strategy's, `unit` names the number in explanations, `series` are the gauges that it is made of."""

    name: ClassVar[str]
    unit: ClassVar[str]
    series: ClassVar[tuple[str, ...]]

    def __init__(self) -> None:
        self._numbers: Sequence[float] = ()
        self._kept: dict[str, _Kept[Measure]] = {}

    @abstractmethod
    def measure(self, reading: EngineGauges, rates: EngineRates) -> Measure | None:
        """What the number needs of a reading; None if nothing has happened that it could be made of."""

    @abstractmethod
    def number(self, measure: Measure, requests: float, added: int, query: RouteQuery) -> float:
        """An engine's number, from 0 on; infinite to come last.

        `requests`: at the endpoint now. `added`: how many more of them are ours than at the reading, or fewer.
        """

    def scores(self, query: RouteQuery, pool: Pool, signals: Signals) -> list[float]:
        """From 1 for the lowest number to 0 for the highest; 0 for an engine that sleeps."""
        self._numbers = numbers = self._all(query, pool, signals)
        finite = [one for one in numbers if one < math.inf]
        least = min(finite, default=0.0)
        spread = (max(finite, default=0.0) - least) or 1.0
        return [1.0 - (one - least) / spread if one < math.inf else 0.0 for one in numbers]

    def explain(self, query: RouteQuery, pool: Pool, signals: Signals) -> Mapping[str, Sequence[float]]:
        """The numbers that the scores were made of."""
        return {self.unit: self._numbers}

    def _all(self, query: RouteQuery, pool: Pool, signals: Signals) -> list[float]:
        """A number for each endpoint, infinite for an engine that sleeps."""
        book, in_flight, kept_of, now = signals.gauges, signals.load.view.get, self._kept.get, signals.now
        reading_of, number_of = book.view.get, self.number
        numbers, weights, owns, missing = [], [], [], 0
        for endpoint in pool.endpoints:
            identity = endpoint.identity
            own, reading, kept = in_flight(identity, 0), reading_of(identity), kept_of(identity)
            if reading is not None and (kept is None or kept.reading is not reading):
                kept = self._keep(identity, reading, book)
            number = weight = 0.0
            if reading is None or kept is None or not kept.has_series or not (fresh := freshness(now - reading.at)):
                missing += 1
            elif reading.asleep:
                number = math.inf
            elif kept.measure is not None:
                number = number_of(kept.measure, own + kept.others * fresh, own - reading.own, query)
                weight = fresh if number < math.inf else 0.0
            numbers.append(number)
            weights.append(weight)
            owns.append(own)
        total = sum(weights)
        if total == len(numbers):
            return numbers
        if missing or not (total or math.inf in numbers):
            signals.degraded.append((self.name, _reason(missing, len(numbers))))
        return _filled(numbers, weights, owns, total)

    def _keep(self, identity: str, reading: EngineGauges, book: GaugeBook) -> _Kept[Measure]:
        has_series = all(getattr(reading, name) is not None for name in self.series)
        measure = self.measure(reading, book.rates(identity) or EngineRates(reading)) if has_series else None
        if len(self._kept) >= MAX_KEPT:
            self._kept.clear()
        kept = self._kept[identity] = _Kept(reading, reading.others, has_series, measure)
        return kept


def _filled(numbers: Sequence[float], weights: Sequence[float], owns: Sequence[int], total: float) -> list[float]:
    """The numbers, and for those that count less than in full our own counts in the numbers' unit."""
    if not total:
        return [own if number < math.inf else number for number, own in zip(numbers, owns, strict=True)]
    mean = sum(number * weight for number, weight in zip(numbers, weights, strict=True) if weight) / total
    mean_own = sum(own * weight for own, weight in zip(owns, weights, strict=True)) / total
    for_one = mean / (mean_own + 1.0)
    return [
        number if weight == 1.0 or number == math.inf else number * weight + for_one * (own + 1) * (1.0 - weight)
        for number, weight, own in zip(numbers, weights, owns, strict=True)
    ]


def _reason(missing: int, endpoints: int) -> Degradation:
    if not missing:
        return Degradation.NO_HISTORY
    return Degradation.NO_READINGS if missing == endpoints else Degradation.SOME_READINGS


def ties(requests: float) -> float:
    """Adds a little for each request, so that of equal endpoints the one with fewer goes first."""
    return _TIE * min(requests, _MOST_REQUESTS)
