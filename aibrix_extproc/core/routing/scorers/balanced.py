"""The endpoint of a session, as long as another one would not answer much sooner."""

from collections.abc import Mapping, Sequence
from typing import Final

from aibrix_extproc.core.placing import RouteQuery
from aibrix_extproc.core.routing.delays import without_delays
from aibrix_extproc.core.routing.kept import Kept
from aibrix_extproc.core.routing.pool import Pool
from aibrix_extproc.core.routing.predictor import alike
from aibrix_extproc.core.routing.record import PREDICTED_TTFT
from aibrix_extproc.core.routing.ring import Ring
from aibrix_extproc.core.routing.scorer import Scorer, ScorerSpec
from aibrix_extproc.core.routing.signals import Need, Signals

SPEC: Final = ScorerSpec(
    name="balanced",
    intent="Keep a session at its endpoint unless another is predicted to answer much sooner.",
    needs=frozenset({Need.PREFIX, Need.SESSION, Need.TICK, Need.WORK}),
)
KEPT: Final = 1.25  # times the shortest time to the first token, up to which a session stays
KEPT_SECONDS: Final = 0.05  # and so much more, as short prompts are computed anew in less
_OTHERS: Final = 0.9


class Balanced(Scorer):
    """Order the endpoints as `predicted` does, but keep a session at its own while that answers nearly as soon.

    The session's endpoint is that of `session-affinity`; it goes first if its predicted time to the first token is at
    most a quarter and 50 ms above the shortest. Use it where engines keep something of a session that no prefix tells
    of, and clients name their sessions: all gateways prefer the same endpoint. Limits: without sessions it is
    `predicted`. In a combination the session's endpoint scores 1 while the session stays, others at most 0.9.
    """

    def __init__(self) -> None:
        self._rings = Kept(Ring)
        self._seconds: Sequence[float] = ()

    def scores(self, query: RouteQuery, pool: Pool, signals: Signals) -> list[float]:
        """1 for the session's endpoint if it stays there; the lowest cost over each one's own for the others."""
        costs, delays = signals.predictor.costs(query, pool, signals.now)
        self._seconds = seconds = without_delays(costs, delays)
        least = min(costs)
        most = alike(least)
        scores = [_OTHERS if one <= most else _OTHERS * least / one for one in costs]
        ring = self._rings.of(pool) if pool.key else Ring()
        home = pool.endpoints.index(ring.first(pool.endpoints, query.session, 1)[0])
        if seconds[home] <= min(seconds) * KEPT + KEPT_SECONDS:
            scores[home] = 1.0
        return scores

    def explain(self, query: RouteQuery, pool: Pool, signals: Signals) -> Mapping[str, Sequence[float]]:
        """The predicted seconds to the first token."""
        return {PREDICTED_TTFT: self._seconds}
