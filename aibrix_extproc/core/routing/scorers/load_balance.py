"""The endpoint with the least work beside how fast it generates, and room in its KV cache."""

import math
from typing import ClassVar, Final

from aibrix_extproc.core.fleet.engine_rates import EngineRates
from aibrix_extproc.core.fleet.gauges import EngineGauges
from aibrix_extproc.core.placing import RouteQuery
from aibrix_extproc.core.routing.measured import Measured
from aibrix_extproc.core.routing.scorer import ScorerSpec
from aibrix_extproc.core.routing.signals import Need

SPEC: Final = ScorerSpec(
    name="load-balance",
    intent="Send each request to the endpoint with the fewest requests for its speed and the room in its KV cache.",
    needs=frozenset({Need.GAUGES, Need.LOAD, Need.TICK}),
)

PRESSURE: Final = 2.0  # AIBrix's alpha
CRITICAL_USAGE: Final = 0.9
_IDLE: Final = 0.01  # requests of an idle endpoint: of idle ones the fastest goes first


class LoadBalance(Measured[float]):
    """Order the endpoints by requests / generated tokens per second * (1 + 2 * KV usage ^ 2), lowest first.

    The formula is that of AIBrix's `load-balance`. The speed is what an engine generates while it has requests, in the
    last half minute, so an idle one does not look slow. One with less than a tenth of its cache free comes last. Use it
    for engines of different speed that others use, too. Limits: the speed is that of generating alone. A stale reading
    fades towards our own counts. In a combination the lowest number scores 1, the highest 0.
    """

    name: ClassVar = SPEC.name
    unit: ClassVar = "effective_load"
    series: ClassVar = ("running", "generation_tokens")

    def measure(self, reading: EngineGauges, rates: EngineRates) -> float | None:
        """What a request weighs: little at a fast engine, more where the KV cache is nearly full."""
        speed, usage = rates.generated_per_busy_second, reading.kv_usage or 0.0
        if usage > CRITICAL_USAGE:
            return math.inf
        return None if speed is None else (1.0 + PRESSURE * usage**2) / speed

    def number(self, measure: float, requests: float, added: int, query: RouteQuery) -> float:
        """The weight of all requests."""
        return (requests + _IDLE) * measure
