"""What happens to an exchange. `at` is monotonic seconds."""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from aibrix_extproc.core.exchange.asks import Answer
from aibrix_extproc.core.fleet.subset import Subset
from aibrix_extproc.rope import Rope


class RequestHead(msgspec.Struct, frozen=True, gc=False):
    """The request's headers, names in lower case.

    `request_id` is unique per exchange, unless the gateway of an endpoint picker reuses ids.
    """

    at: float
    request_id: str
    headers: Mapping[str, str]
    end_of_stream: bool
    subset: Subset | None = None  # endpoints that an endpoint picker's gateway allows; None: all


class RequestBody(msgspec.Struct, frozen=True, gc=False):
    """The whole body (BUFFERED mode)."""

    at: float
    data: bytes
    end_of_stream: bool


class LargeRequestBody(msgspec.Struct, frozen=True, gc=False):
    """The whole body, too large to be joined or read in one turn of the loop."""

    at: float
    data: Rope
    end_of_stream: bool


class RequestTrailers(msgspec.Struct, frozen=True, gc=False):
    """Trailers of the request."""

    at: float


class ResponseHead(msgspec.Struct, frozen=True, gc=False):
    """The response's headers, from an engine or made by Envoy (see `code_details`), with Envoy's attributes."""

    at: float
    status: int
    headers: Mapping[str, str]
    end_of_stream: bool
    code_details: str = ""
    flags: int = 0
    upstream_address: str = ""
    request_id: str = ""  # of a stream whose first message this is
    served: str | None = None  # the endpoint that answered, as an endpoint picker's gateway reports it
    protocol: str = ""  # of the client; empty if Envoy does not report it


class DeadlineReached(msgspec.Struct, frozen=True, gc=False):
    """The time of a `WaitFor` has passed."""

    at: float


class EngineAsleep(msgspec.Struct, frozen=True, gc=False):
    """The engine of the request is asleep or paused. `elsewhere`: another endpoint is ready."""

    at: float
    elsewhere: bool


class ResponseBody(msgspec.Struct, frozen=True, gc=False):
    """The whole body of a response (BUFFERED by mode override)."""

    at: float
    data: bytes
    end_of_stream: bool


class ResponseTrailers(msgspec.Struct, frozen=True, gc=False):
    """Trailers of the response."""

    at: float


class Cause(StrEnum):
    """How an ext_proc stream ended. Half-close and CANCELLED are both how Envoy ends a normal exchange."""

    HALF_CLOSED = "half_closed"
    CANCELLED = "cancelled"
    FAILED = "failed"


class StreamClosed(msgspec.Struct, frozen=True, gc=False):
    """Always the last event, fed exactly once."""

    at: float
    cause: Cause


EnvoyEvent = (
    RequestHead | RequestBody | LargeRequestBody | RequestTrailers | ResponseHead | ResponseBody | ResponseTrailers
)
Event = EnvoyEvent | Answer | DeadlineReached | EngineAsleep | StreamClosed
