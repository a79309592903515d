"""Each session to an endpoint of its own, as long as that one is there."""

from typing import Final

from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.placing import ATTEMPTS, RouteQuery
from aibrix_extproc.core.routing.kept import Kept
from aibrix_extproc.core.routing.pool import Pool
from aibrix_extproc.core.routing.ring import Ring
from aibrix_extproc.core.routing.scorer import Scorer, ScorerSpec
from aibrix_extproc.core.routing.signals import Need, Signals

SPEC: Final = ScorerSpec(
    name="session-affinity",
    intent="Send all requests of a session to one endpoint.",
    needs=frozenset({Need.SESSION}),
)


class SessionAffinity(Scorer):
    """Order the endpoints by a ring of hashes on which each session has its places, so no session is remembered.

    Use it for conversations whose prompts repeat what was said: the endpoint has it in its prefix cache. All gateways
    send a session to the same endpoint. When that one leaves, the session moves to the next in its order and the
    others stay; when one joins, it takes over its share of the sessions and no more. A session's id is only hashed:
    it holds no address, and no address can be written into it. Limits: it ignores load, so a busy session makes a
    busy endpoint, and shares of the sessions differ by about a tenth. In a combination the session's endpoint scores
    1, each of the next in its order half of the one before, and the others 0.
    """

    def __init__(self) -> None:
        self._rings = Kept(Ring)

    def scores(self, query: RouteQuery, pool: Pool, signals: Signals) -> list[float]:
        """Something for the first of the session's order, nothing for the others."""
        given = {one.identity: 0.5**place for place, one in enumerate(self.rank(query, pool, signals, ATTEMPTS))}
        return [given.get(endpoint.identity, 0.0) for endpoint in pool.endpoints]

    def rank(self, query: RouteQuery, pool: Pool, signals: Signals, limit: int) -> tuple[Endpoint, ...]:
        """By the ring, which is kept for all endpoints of a model and made for a selection of them."""
        ring = self._rings.of(pool) if pool.key else Ring()
        return ring.first(pool.endpoints, query.session, limit)
