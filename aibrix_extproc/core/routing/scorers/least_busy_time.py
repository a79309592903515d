"""The endpoint whose engine has worked least of the last time."""

from typing import ClassVar, Final

from aibrix_extproc.core.fleet.engine_rates import EngineRates
from aibrix_extproc.core.fleet.gauges import EngineGauges
from aibrix_extproc.core.placing import RouteQuery
from aibrix_extproc.core.routing.measured import Measured, ties
from aibrix_extproc.core.routing.scorer import ScorerSpec
from aibrix_extproc.core.routing.signals import Need

SPEC: Final = ScorerSpec(
    name="least-busy-time",
    intent="Send each request to the endpoint whose engine was busy for the smallest part of the last half minute.",
    needs=frozenset({Need.GAUGES, Need.LOAD, Need.TICK}),
)


class LeastBusyTime(Measured[float]):
    """Order the endpoints by the part of the last half minute in which they had requests; equal ones by requests.

    Engines report no busy time, so it is what our readings of them saw, whoever sent the requests. Use it for few, long
    requests. Limits: engines that are always busy are all equal, and then the number of requests decides. A stale
    reading fades towards our own counts. In a combination the least busy one scores 1, the busiest 0.
    """

    name: ClassVar = SPEC.name
    unit: ClassVar = "busy_share"
    series: ClassVar = ("running",)

    def measure(self, reading: EngineGauges, rates: EngineRates) -> float | None:
        """Part of the time with requests; of a first reading, whether there are some."""
        busy = rates.busy_share
        return (1.0 if reading.running else 0.0) if busy is None else busy

    def number(self, measure: float, requests: float, added: int, query: RouteQuery) -> float:
        """Part of the time with requests."""
        return measure + ties(requests)
