"""The question that placement answers: one request, as far as the choice of its endpoint depends on it."""

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
