"""Each session to an endpoint of its own, as long as that one is there."""

from hashlib import blake2b
from heapq import nlargest
from typing import Final

from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.placing import Load, RouteQuery
from aibrix_extproc.core.routing.spec import Input, StrategySpec

SPEC: Final = StrategySpec(
    name="session-affinity",
    intent="Send all requests of a session to one endpoint.",
    inputs=(Input("session", "`x-session-id`, else `x-aibrix-session-key`, else a new one; told by `x-session-id`"),),
    keeps_sessions=True,
)


def rank(
    query: RouteQuery,
    endpoints: tuple[Endpoint, ...],
    load: Load,
    *,
    tick: int,
    dice: float,
    limit: int,
) -> tuple[Endpoint, ...]:
    """Order the endpoints by a hash of session and endpoint (rendezvous hashing), so nothing has to be remembered.

    Use it for conversations whose prompts repeat what was said: the endpoint has it in its prefix cache. All gateways
    send a session to the same endpoint. When that one leaves, the session moves to the next in its order and the
    others stay; when one joins, it takes over its share of the sessions and no more. A session's id is only hashed:
    it holds no address, and no address can be written into it. Limits: it ignores load, so a busy session makes a
    busy endpoint; one hash for each endpoint makes it the most expensive strategy in a large fleet (about 1 us each).
    """
    session = blake2b(query.session.encode("utf-8", "surrogatepass"), digest_size=8)

    def weight(endpoint: Endpoint) -> bytes:
        mixed = session.copy()
        mixed.update(b"\0" + endpoint.identity.encode())
        return mixed.digest()

    return tuple(nlargest(limit, endpoints, key=weight))
