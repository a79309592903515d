"""Callers that use more than their share keep to fewer endpoints; among its endpoints each goes where it is quiet."""

import math
from typing import Final
from zlib import crc32

from aibrix_extproc.core.placing import ANYONE, RouteQuery
from aibrix_extproc.core.routing.measured import Degradation
from aibrix_extproc.core.routing.pool import Pool
from aibrix_extproc.core.routing.scorer import Scorer, ScorerSpec
from aibrix_extproc.core.routing.signals import Need, Signals

SPEC: Final = ScorerSpec(
    name="vtc-basic",
    intent="Keep callers that use more tokens than others to fewer endpoints, and balance requests.",
    needs=frozenset({Need.CALLER, Need.LOAD, Need.TICK}),
)


class VtcBasic(Scorer):
    """Order a caller's endpoints by requests in flight, fewest first; those that are not its own come behind them.

    A caller that has used f times its equal share of the tokens of the last minutes has one of f endpoints, in an order
    of its own; one that has used its share or less has all. Tokens are those of answers, output twice. So a heavy
    caller fills up a few endpoints and leaves the others to the rest, which is what AIBrix's strategy of this name is
    for; its own formula sends light callers to one endpoint, but for chance. Use it where callers share engines and no
    queue in the gateway is fair to them. Limits: it needs keys, and each gateway counts for itself, at the end of
    answers. In a combination the caller's least busy endpoint scores 1, its busiest 1/2, and the others less.
    """

    def scores(self, query: RouteQuery, pool: Pool, signals: Signals) -> list[float]:
        """From 1 to 1/2 for the caller's own endpoints by their load, the same less 1/2 for the others."""
        in_flight, size = signals.load.view.get, len(pool.endpoints)
        counts = [in_flight(endpoint.identity, 0) for endpoint in pool.endpoints]
        least = min(counts)
        spread = (max(counts) - least) or 1
        quiet = [1.0 - (count - least) / spread for count in counts]
        if query.caller == ANYONE.name:
            signals.degraded.append((SPEC.name, Degradation.NO_CALLER))
        excess = signals.tokens.excess(query.caller)
        if excess <= 1.0:
            return [0.5 + 0.5 * one for one in quiet]
        order = sorted(
            range(size), key=lambda index: crc32(f"{query.caller} {pool.endpoints[index].identity}".encode())
        )
        own = set(order[: math.ceil(size / excess)])
        return [0.5 + 0.5 * one if index in own else 0.49 * one for index, one in enumerate(quiet)]
