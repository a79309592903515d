"""The figures of a run: hit rate, times to the first token, and how even the load was."""

import math
from collections import Counter
from collections.abc import Sequence

import msgspec

from aibrix_extproc.replay.simulation import Outcome


class Figures(msgspec.Struct, frozen=True, gc=False):
    """Of one strategy on one fleet. Times in seconds."""

    strategy: str
    engines: int
    gateways: int
    requests: int
    hit_rate: float  # cached tokens of all prompt tokens
    ttft_mean: float
    ttft_p50: float
    ttft_p95: float
    ttft_p99: float
    total_p95: float  # from the request to the end of its answer
    tokens_per_second: float  # written by all engines, from the first request to the last answer
    busiest: float  # requests of the engine that got most of them, by the mean


def figures(strategy: str, outcome: Outcome, engines: int, gateways: int = 1, skip: int = 0) -> Figures:
    """The figures of all but the first `skip` requests, in which caches are filled and speeds learned."""
    visits = outcome.visits[skip:]
    waits = sorted(one.first_token - one.arrived for one in visits)
    totals = sorted(one.finished - one.arrived for one in visits)
    span = max(one.finished for one in visits) - visits[0].arrived
    shares = Counter(outcome.engines[skip:])
    return Figures(
        strategy=strategy,
        engines=engines,
        gateways=gateways,
        requests=len(visits),
        hit_rate=sum(one.cached_tokens for one in visits) / sum(one.request.prompt_tokens for one in visits),
        ttft_mean=sum(waits) / len(waits),
        ttft_p50=quantile(waits, 0.5),
        ttft_p95=quantile(waits, 0.95),
        ttft_p99=quantile(waits, 0.99),
        total_p95=quantile(totals, 0.95),
        tokens_per_second=sum(one.request.output_tokens for one in visits) / span if span > 0 else 0.0,
        busiest=max(shares.values()) * engines / len(visits),
    )


def quantile(ordered: Sequence[float], share: float) -> float:
    """Of sorted values: the least one that so great a share of them does not exceed."""
    return ordered[max(math.ceil(len(ordered) * share) - 1, 0)]
