"""The endpoint that runs the request's LoRA adapter already, unless it has many more requests."""

from typing import ClassVar, Final, NamedTuple

from aibrix_extproc.core.fleet.engine_rates import EngineRates
from aibrix_extproc.core.fleet.gauges import EngineGauges
from aibrix_extproc.core.placing import RouteQuery
from aibrix_extproc.core.routing.measured import Measured
from aibrix_extproc.core.routing.pool import Pool
from aibrix_extproc.core.routing.scorer import ScorerSpec
from aibrix_extproc.core.routing.signals import Need, Signals

SPEC: Final = ScorerSpec(
    name="lora-affinity",
    intent="Send requests for an adapter to an endpoint that runs it now, or has room for it.",
    needs=frozenset({Need.GAUGES, Need.LOAD, Need.TICK}),
)

TO_LOAD: Final = 2.0  # requests that it is worth to find the adapter in the batch
TO_WAIT: Final = 8.0  # requests that it is worth not to wait until another adapter has left the batch


class Adapters(NamedTuple):
    """The adapters of an engine's batch."""

    names: frozenset[str]
    has_room: bool


class LoraAffinity(Measured[Adapters]):
    """Order the endpoints by their requests, and what it takes to bring the adapter into the batch, fewest first.

    An engine computes with at most `--max-loras` adapters at a time. One that runs the adapter counts its requests; one
    that has room for it counts two more, and one that is full of others eight more, as the request waits there. So a
    busy engine is left for one that has to load, and a request for a base model goes to the fewest requests. Use it for
    many adapters of one model, alone or in a combination. Limits: `predicted` finds the prefixes of adapters and does
    not know how many an engine can run; an engine's reading may be a moment old, and requests placed meanwhile are not
    in it. In a combination the lowest number scores 1, the highest 0.
    """

    name: ClassVar = SPEC.name
    unit: ClassVar = "requests_with_adapter"
    series: ClassVar = ("running",)

    def __init__(self) -> None:
        super().__init__()
        self._adapter = ""  # of the request at hand; empty for a base model

    def scores(self, query: RouteQuery, pool: Pool, signals: Signals) -> list[float]:
        """From 1 for the fewest requests and the shortest way into the batch to 0; 0 for an engine that sleeps."""
        served = pool.endpoints[0].models
        is_adapter = any(one.parent is not None and one.id == query.model for one in served)
        self._adapter = query.model if is_adapter else ""
        return super().scores(query, pool, signals)

    def measure(self, reading: EngineGauges, rates: EngineRates) -> Adapters | None:
        """What runs and waits there."""
        names = reading.running_adapters | reading.waiting_adapters
        return Adapters(names, reading.max_adapters is None or len(names) < reading.max_adapters)

    def number(self, measure: Adapters, requests: float, added: int, query: RouteQuery) -> float:
        """The requests, and those that the adapter's way into the batch is worth."""
        if self._adapter and self._adapter not in measure.names:
            requests += TO_LOAD if measure.has_room else TO_WAIT
        return requests
