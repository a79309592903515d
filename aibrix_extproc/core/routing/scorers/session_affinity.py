"""Each session to an endpoint of its own, as long as that one is there."""

from collections.abc import Callable
from hashlib import blake2b
from heapq import nlargest
from typing import Final

from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.placing import RouteQuery
from aibrix_extproc.core.routing.pool import Pool
from aibrix_extproc.core.routing.scorer import Scorer, ScorerSpec
from aibrix_extproc.core.routing.signals import Need, Signals

SPEC: Final = ScorerSpec(
    name="session-affinity",
    intent="Send all requests of a session to one endpoint.",
    needs=frozenset({Need.SESSION}),
)


class SessionAffinity(Scorer):
    """Order the endpoints by a hash of session and endpoint (rendezvous hashing), so nothing has to be remembered.

    Use it for conversations whose prompts repeat what was said: the endpoint has it in its prefix cache. All gateways
    send a session to the same endpoint. When that one leaves, the session moves to the next in its order and the
    others stay; when one joins, it takes over its share of the sessions and no more. A session's id is only hashed:
    it holds no address, and no address can be written into it. Limits: it ignores load, so a busy session makes a
    busy endpoint; one hash for each endpoint makes it the most expensive strategy in a large fleet (about 1 us each).
    In a combination the session's endpoint scores highest, and the others less, in its order.
    """

    def scores(self, query: RouteQuery, pool: Pool, signals: Signals) -> list[float]:
        """The hashes."""
        weight = _weight(query.session)
        return [int.from_bytes(weight(endpoint)) / 2**64 for endpoint in pool.endpoints]

    def rank(self, query: RouteQuery, pool: Pool, signals: Signals, limit: int) -> tuple[Endpoint, ...]:
        """By the hashes, without turns: no two are equal."""
        return tuple(nlargest(limit, pool.endpoints, key=_weight(query.session)))


def _weight(session: str) -> Callable[[Endpoint], bytes]:
    hashed = blake2b(session.encode("utf-8", "surrogatepass"), digest_size=8)

    def weight(endpoint: Endpoint) -> bytes:
        mixed = hashed.copy()
        mixed.update(b"\0" + endpoint.identity.encode())
        return mixed.digest()

    return weight
