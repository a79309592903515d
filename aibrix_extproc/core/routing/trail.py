"""Keeps what a choice was made of, at no more cost than it has anyway, unless somebody looks."""

from collections.abc import Mapping, Sequence

from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.placing import RouteQuery
from aibrix_extproc.core.routing.pool import Pool
from aibrix_extproc.core.routing.record import IN_FLIGHT, MAX_VALUED, Detail, Part, Reason, Trail
from aibrix_extproc.core.routing.scorer import NO_DETAILS, Scorer
from aibrix_extproc.core.routing.signals import Signals

Values = list[Sequence[float]]
"""The scores of each part of a mix, each in the order of the pool."""


class Tracer:
    """Makes the trails of one mix."""

    __slots__ = ("_explaining", "_from_scores", "_parts")

    def __init__(self, parts: Sequence[tuple[str, int, Scorer]]) -> None:
        self._parts = parts
        scorers = [scorer for _, _, scorer in parts]
        self._from_scores = len(parts) > 1 or type(scorers[0]).rank is Scorer.rank
        self._explaining = [one for one in scorers if type(one).explain is not Scorer.explain]

    def scores(self, query: RouteQuery, pool: Pool, signals: Signals) -> Values | None:
        """What the ranking is made from; None if the scorer finds the best without scores."""
        return self._scores(query, pool, signals) if self._from_scores else None

    def trail(
        self, query: RouteQuery, pool: Pool, signals: Signals, candidates: tuple[Endpoint, ...],
        values: Values | None, detail: Detail, reason: Reason,
    ) -> Trail:  # fmt: skip
        """How the candidates were found, `values` being the scores that this took."""
        details = NO_DETAILS
        for scorer in self._explaining:
            found = scorer.explain(query, pool, signals)
            details = {**details, **found} if details else found
        endpoints = pool.endpoints
        if detail is Detail.FULL:
            values = values or self._scores(query, pool, signals)
        elif values is None and not details:
            endpoints = candidates
        elif len(endpoints) > MAX_VALUED:
            endpoints, values, details = _only(candidates, pool, values, details)
        if detail is Detail.FULL or endpoints is candidates:
            in_flight = signals.load.view.get
            details = {**details, IN_FLIGHT: tuple([in_flight(one.identity, 0) for one in endpoints])}
        parts = () if values is None else tuple(
            [Part(name, weight, scores) for (name, weight, _), scores in zip(self._parts, values, strict=True)]
        )  # fmt: skip
        return Trail(len(pool.endpoints), signals.tick, endpoints, parts, tuple(details.items()), reason)

    def _scores(self, query: RouteQuery, pool: Pool, signals: Signals) -> Values:
        return [scorer.scores(query, pool, signals) for _, _, scorer in self._parts]


def _only(
    candidates: tuple[Endpoint, ...], pool: Pool, values: Values | None, details: Mapping[str, Sequence[float]]
) -> tuple[tuple[Endpoint, ...], Values | None, dict[str, Sequence[float]]]:
    """What is known of the candidates, which are few."""
    places = {id(one): place for place, one in enumerate(pool.endpoints)}
    wanted = [places[id(one)] for one in candidates]
    kept: Values | None = None if values is None else [[scores[place] for place in wanted] for scores in values]
    return candidates, kept, {name: [numbers[place] for place in wanted] for name, numbers in details.items()}
