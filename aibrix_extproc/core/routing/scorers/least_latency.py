"""The endpoint where a request will probably take the shortest time, by what engines measure."""

from typing import ClassVar, Final

from aibrix_extproc.core.fleet.engine_rates import EngineRates
from aibrix_extproc.core.fleet.gauges import EngineGauges
from aibrix_extproc.core.placing import RouteQuery
from aibrix_extproc.core.routing.measured import Measured
from aibrix_extproc.core.routing.scorer import ScorerSpec
from aibrix_extproc.core.routing.signals import Need

SPEC: Final = ScorerSpec(
    name="least-latency",
    intent="Send each request to the endpoint whose engine has been fastest lately, at its load of now.",
    needs=frozenset({Need.GAUGES, Need.LOAD, Need.TICK}),
)

BYTES_PER_TOKEN: Final = 4.0  # of a prompt
MOST_TOKENS: Final = 256  # of an answer, which is rarely as long as it may be


class LeastLatency(Measured[tuple[float, float, float]]):
    """Order the endpoints by the time that the request will probably take from its arrival to its last token.

    That is what requests of the last half minute waited there for a token of their prompts, times the prompt, and
    between two tokens, times the answer (by `max_tokens`, 256 at most); times how many requests there are now beside
    then. Use it where engines differ and others send them requests, too. Limits: it needs the engines' histograms, and
    knows no cached prefixes; `predicted` learns speeds from our own requests. A stale reading fades towards our own
    counts. In a combination the shortest time scores 1, the longest 0.
    """

    name: ClassVar = SPEC.name
    unit: ClassVar = "predicted_seconds"
    series: ClassVar = ("prompt_tokens", "first_token_seconds", "token_gap_seconds")

    def measure(self, reading: EngineGauges, rates: EngineRates) -> tuple[float, float, float] | None:
        """Seconds for a byte of the prompt and a token of the answer, and requests when they were taken."""
        for_prompt, for_token = rates.first_token_seconds_per_prompt_token, rates.seconds_per_token
        if for_prompt is None or for_token is None:
            return None
        return for_prompt / BYTES_PER_TOKEN, for_token, (rates.mean_requests or 0.0) + 1.0

    def number(self, measure: tuple[float, float, float], requests: float, added: int, query: RouteQuery) -> float:
        """Seconds that the request will probably take."""
        for_prompt, for_token, load = measure
        output = min(query.max_tokens or MOST_TOKENS, MOST_TOKENS)
        return (for_prompt * query.prompt_bytes + for_token * output) * (requests + 1.0) / load
