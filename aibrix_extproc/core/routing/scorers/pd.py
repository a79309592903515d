"""The decode engine that answers first with few others beside the request, its prompt computed by whom it is best."""

from collections.abc import Mapping, Sequence
from typing import Final

from aibrix_extproc.core.placing import RouteQuery
from aibrix_extproc.core.routing.delays import without_delays
from aibrix_extproc.core.routing.disaggregation.choose import harm, transfer_seconds, uncached_tokens, until_decode
from aibrix_extproc.core.routing.pool import Pool, PrefillPool
from aibrix_extproc.core.routing.record import PREDICTED_TTFT
from aibrix_extproc.core.routing.scorer import Scorer, ScorerSpec
from aibrix_extproc.core.routing.signals import Need, Signals

SPEC: Final = ScorerSpec(
    name="pd",
    intent="Prefill/decode disaggregation: choose the decode engine, and the engine that computes the prompt for it.",
    needs=frozenset({Need.LOAD, Need.PREFIX, Need.TICK, Need.WORK}),
)
NO_PREFILL: Final = "no_prefill"
UNCACHED: Final = "uncached_tokens"


class PD(Scorer):
    """Order decode engines by the time to the first token plus a decode step for each request that they answer.

    The time is that of the best prefill engine of the same role set, or the decode engine's own where it lacks few
    tokens of the prompt (`disaggregation.local_tokens`) or its role set has no prefill engine. Use it for models with
    prefill engines, where `predicted` means this strategy, so nobody has to name it. Other strategies choose the decode
    engine alone; its prompt is computed by the same rule. Limits: without prefill engines it is `predicted`.
    """

    def __init__(self) -> None:
        self._seconds: list[float] = []
        self._uncached: list[float] = []

    def scores(self, query: RouteQuery, pool: Pool, signals: Signals) -> list[float]:
        """The shortest time over each one's own."""
        costs = self._costs(query, pool, signals)
        least = min(costs)
        return [least / one if one > least else 1.0 for one in costs]

    def explain(self, query: RouteQuery, pool: Pool, signals: Signals) -> Mapping[str, Sequence[float]]:
        """The predicted seconds to the first token, by whoever computes the prompt."""
        return {PREDICTED_TTFT: self._seconds, UNCACHED: self._uncached}

    def _costs(self, query: RouteQuery, pool: Pool, signals: Signals) -> list[float]:
        predictor, now = signals.predictor, signals.now
        costs, delays = predictor.costs(query, pool, now)
        seconds = without_delays(costs, delays)
        self._uncached = uncached_tokens(query, pool, predictor)
        if pool.prefill is None:
            signals.degraded.append((SPEC.name, NO_PREFILL))
        else:
            remote = _remote_seconds(query, pool.prefill, signals)
            for place, one in enumerate(pool.endpoints):
                uncached = self._uncached[place]
                if uncached > pool.prefill.most_local_tokens and one.role_set in remote:
                    cost, until_first = remote[one.role_set]
                    cost += until_decode(one, predictor, now)
                    costs[place] += harm(uncached, one, signals.load.view.get(one.identity, 0), predictor)
                    if cost <= costs[place]:  # the transfer makes no difference to that, or idle fleets had none
                        read = transfer_seconds(uncached)
                        costs[place], seconds[place] = cost + read, until_first + read
        self._seconds = seconds
        step = predictor.speeds.middle_step(pool.endpoints[0].base_model or query.model)
        load = signals.load.view.get
        return [cost + load(one.identity, 0) * step for cost, one in zip(costs, pool.endpoints, strict=True)]


def _remote_seconds(query: RouteQuery, prefill: PrefillPool, signals: Signals) -> dict[str, tuple[float, float]]:
    """Cost and seconds of the best prefill engine, by role set."""
    if not prefill.endpoints:
        return {}
    costs, delays = signals.predictor.costs(query, Pool(prefill.endpoints, prefill.key), signals.now)
    best: dict[str, tuple[float, float]] = {}
    for place, one in enumerate(prefill.endpoints):
        known = best.get(one.role_set)
        if known is None or costs[place] < known[0]:
            best[one.role_set] = costs[place], costs[place] - delays.get(place, 0.0)
    return best
