"""The endpoint whose engine has processed the fewest tokens lately."""

from typing import ClassVar, Final

from aibrix_extproc.core.fleet.engine_rates import WINDOW_SECONDS, EngineRates
from aibrix_extproc.core.fleet.gauges import EngineGauges
from aibrix_extproc.core.placing import RouteQuery
from aibrix_extproc.core.routing.measured import Measured
from aibrix_extproc.core.routing.scorer import ScorerSpec
from aibrix_extproc.core.routing.signals import Need

SPEC: Final = ScorerSpec(
    name="throughput",
    intent="Send each request to the endpoint whose engine has processed the fewest tokens in the last half minute.",
    needs=frozenset({Need.GAUGES, Need.LOAD, Need.TICK}),
)


class Throughput(Measured[tuple[float, float]]):
    """Order the endpoints by the tokens that they have processed in each second of the last half minute, fewest first.

    Tokens of prompts count twice, as with AIBrix. For each request that we have sent since the last reading, a mean
    request's tokens are added. Use it to spread tokens rather than requests over equal engines. Limits: a fast engine
    gets no more than a slow one, and what waits is not seen; `load-balance` sees both. A stale reading fades towards
    our own counts. In a combination the fewest tokens score 1, the most 0.
    """

    name: ClassVar = SPEC.name
    unit: ClassVar = "weighted_tokens_per_second"
    series: ClassVar = ("prompt_tokens", "generation_tokens")

    def measure(self, reading: EngineGauges, rates: EngineRates) -> tuple[float, float] | None:
        """Tokens in a second, and what a request adds to them."""
        tokens, each = rates.weighted_tokens_per_second, rates.weighted_tokens_per_request
        return tokens or 0.0, (each or 0.0) / WINDOW_SECONDS

    def number(self, measure: tuple[float, float], requests: float, added: int, query: RouteQuery) -> float:
        """Tokens in a second, with those that our latest requests will add."""
        tokens, each = measure
        return tokens + max(added, 0) * each
