"""The endpoint whose engine says that it is utilized least."""

from typing import ClassVar, Final

from aibrix_extproc.core.fleet.engine_rates import EngineRates
from aibrix_extproc.core.fleet.gauges import EngineGauges
from aibrix_extproc.core.placing import RouteQuery
from aibrix_extproc.core.routing.measured import Measured, ties
from aibrix_extproc.core.routing.scorer import ScorerSpec
from aibrix_extproc.core.routing.signals import Need

SPEC: Final = ScorerSpec(
    name="least-utilization",
    intent="Send each request to the endpoint with the lowest utilization by its own account; only xLLM reports one.",
    needs=frozenset({Need.GAUGES, Need.LOAD, Need.TICK}),
)


class LeastUtilization(Measured[float]):
    """Order the endpoints by the gauge `engine_utilization`, lowest first; equal ones by requests.

    Use it for xLLM. Limits: other engines have no such gauge, and our own counts decide. A stale reading fades towards
    them, too. In a combination the lowest utilization scores 1, the highest 0.
    """

    name: ClassVar = SPEC.name
    unit: ClassVar = "utilization"
    series: ClassVar = ("utilization",)

    def measure(self, reading: EngineGauges, rates: EngineRates) -> float | None:
        """Utilization, 0 to 1."""
        return reading.utilization

    def number(self, measure: float, requests: float, added: int, query: RouteQuery) -> float:
        """The same, and a little for each request."""
        return measure + ties(requests)
