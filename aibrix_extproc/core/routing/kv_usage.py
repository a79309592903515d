"""The part of an engine's KV cache that is in use, as two strategies rank by it."""

from typing import ClassVar, Final

from aibrix_extproc.core.fleet.engine_rates import EngineRates
from aibrix_extproc.core.fleet.gauges import EngineGauges
from aibrix_extproc.core.placing import RouteQuery
from aibrix_extproc.core.routing.measured import Measured, ties

A_REQUEST: Final = 1 / 256  # of the cache, where no request runs that shows how much one takes: vLLM runs 256 at most


class KVUsage(Measured[tuple[float, float]]):
    """Usage by the last reading, corrected by the requests that we have added since."""

    unit: ClassVar = "kv_usage"
    series: ClassVar = ("kv_usage",)

    def measure(self, reading: EngineGauges, rates: EngineRates) -> tuple[float, float] | None:
        """Usage, and the share of a request."""
        usage = reading.kv_usage or 0.0
        return usage, usage / reading.running if reading.running else A_REQUEST

    def number(self, measure: tuple[float, float], requests: float, added: int, query: RouteQuery) -> float:
        """Part of the KV cache that is probably in use now."""
        usage, each = measure
        return min(max(usage + added * each, 0.0), 1.0) + ties(requests)
