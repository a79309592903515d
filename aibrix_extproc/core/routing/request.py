"""The question that placement answers: one request, as far as the choice of its endpoint depends on it."""

import math
from typing import final

import msgspec

from aibrix_extproc.core.fleet.subset import Subset
from aibrix_extproc.core.openai.contract.operations import Operation
from aibrix_extproc.core.placing import Caller, RouteQuery, RoutingHeaders


@final
class Place(msgspec.Struct, frozen=True, gc=False):
    """Which endpoints may take the request, best first?"""

    operation: Operation
    query: RouteQuery
    headers: RoutingHeaders | None  # None: the client sent none of them
    caller: Caller
    stored_response: str | None = None  # only the endpoint that made this response will do
    subset: Subset | None = None  # only these endpoints will do
    request_id: str = ""
    batch: bool = False  # the request is a line of a batch
    patience: str | None = None  # seconds that the client waits for its answer, as it sent them
    retries: str | None = None  # how often it has sent this request before, as it says
    full: frozenset[str] = frozenset()  # identities of endpoints that take no more requests now


def seconds_of(asked: str | None) -> float | None:
    """What a client says of its patience; None if it says nothing that makes sense."""
    try:
        seconds = float(asked) if asked else math.inf
    except ValueError:
        return None
    return seconds if 0 < seconds < math.inf else None
