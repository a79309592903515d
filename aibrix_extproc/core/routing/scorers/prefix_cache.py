"""The endpoint that has most of the prompt in its cache, unless it is busy, as AIBrix defines it."""

from statistics import fmean, pstdev
from typing import Final

from aibrix_extproc.core.placing import RouteQuery
from aibrix_extproc.core.routing.pool import Pool
from aibrix_extproc.core.routing.scorer import Scorer, ScorerSpec
from aibrix_extproc.core.routing.signals import Need, Signals

SPEC: Final = ScorerSpec(
    name="prefix-cache",
    intent="Send each request to the endpoint that has most of its prompt in its cache, unless that one is busy.",
    needs=frozenset({Need.LOAD, Need.PREFIX, Need.TICK, Need.WORK}),
)

_IMBALANCE: Final = 16  # requests between the busiest and the least busy endpoint: then only load counts
_DEVIATIONS: Final = 2.0  # above the mean: an endpoint with more requests is busy
_NEARLY_ALL: Final = 0.999  # of a score is the share; the rest decides between equal ones
_FLOOR: Final = 0.5  # scores of endpoints with a part of the prompt are above, those of the others below


class PrefixCache(Scorer):
    """Order the endpoints by the share of the prompt that they have cached, those with fewer requests first.

    The rule and its numbers are those of AIBrix as it is deployed: endpoints with more requests than the mean and two
    standard deviations come last, and where requests differ by more than 16, only the least busy endpoints count.
    Use it to compare with AIBrix; `predicted` needs no such numbers and is better on every trace that was measured.
    Limits: it knows neither how large the requests are that wait, nor how fast the engines are. In a combination an
    endpoint with all of the prompt scores nearly 1, one with nothing at most 1/2, by its load.
    """

    def scores(self, query: RouteQuery, pool: Pool, signals: Signals) -> list[float]:
        """By cached share, then by load; by load alone where the load is uneven."""
        in_flight = signals.load.view.get
        counts = [in_flight(endpoint.identity, 0) for endpoint in pool.endpoints]
        least, most = min(counts), max(counts)
        shares = [0.0] * len(counts)
        prefix, index = query.prefix, signals.predictor.index
        if prefix is not None and prefix.size and most - least <= _IMBALANCE:
            cached = index.cached(prefix)
            limit = fmean(counts) + _DEVIATIONS * pstdev(counts)
            shares = [
                cached.of(endpoint.identity) / prefix.size if count <= limit else 0.0
                for endpoint, count in zip(pool.endpoints, counts, strict=True)
            ]
        return [
            _FLOOR + (1 - _FLOOR) * (share * _NEARLY_ALL + (1 - count / (most + 1)) * (1 - _NEARLY_ALL))
            if share
            else _FLOOR * (1 - (count - least) / (most - least + 1))
            for share, count in zip(shares, counts, strict=True)
        ]
