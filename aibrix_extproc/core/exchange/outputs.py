"""What the machine returns: replies to Envoy, asks for the dispatcher, facts for observers.

Classes that are final are distinguished by `type(...) is`: an isinstance that fails takes four times as long, and an
exchange has dozens.
"""

from enum import StrEnum
from typing import Final, final

import msgspec

from aibrix_extproc.core.exchange.asks import Ask
from aibrix_extproc.core.exchange.asks import Headers as Headers
from aibrix_extproc.core.exchange.events import Cause
from aibrix_extproc.core.placing import Placement, RouteQuery
from aibrix_extproc.rope import Rope


class Phase(StrEnum):
    """The ext_proc message that a reply answers."""

    __hash__ = str.__hash__  # Enum's own is a function in Python; these are looked up several times a message

    REQUEST_HEAD = "request_head"
    REQUEST_BODY = "request_body"
    REQUEST_TRAILERS = "request_trailers"
    RESPONSE_HEAD = "response_head"
    RESPONSE_BODY = "response_body"
    RESPONSE_TRAILERS = "response_trailers"


@final
class DynamicMetadata(msgspec.Struct, frozen=True, gc=False):
    """What a placement leaves in Envoy, for the stream filter and for the access log."""

    request_id: str
    operation: str
    model: str
    caller: str
    stream: str  # how the operation streams; the content type says whether this answer does
    hide_usage: bool  # the usage event was asked for by the gateway, not by the client
    sealed: bytes = b""  # what is charged, and proof that it is ours; empty until it is sealed
    key_id: str = ""  # of the caller's key
    batch_id: str = ""  # of the batch that the request is a line of
    response_id: str = ""  # of the response that the request makes or retrieves
    reservation: str = ""  # of a limited caller


@final
class Continue(msgspec.Struct, frozen=True, gc=False):
    """The reply that lets Envoy go on, with changes. An empty one is the cheapest."""

    phase: Phase
    set_headers: Headers = ()
    remove_headers: tuple[str, ...] = ()
    body: bytes | None = None  # replaces the body; content-length is in set_headers
    large_body: Rope | None = None  # in place of `body`
    destination: str | None = None  # also as dynamic metadata envoy.lb; clears the route cache
    dynamic_metadata: DynamicMetadata | None = None
    buffer_response: bool = False  # mode override: send us the whole response body
    skip_body: bool = False  # mode override: do not send us the request's body; clears the route cache


@final
class Immediate(msgspec.Struct, frozen=True, gc=False):
    """The final answer, made here. Envoy sends it in place of an engine's."""

    status: int
    headers: Headers
    body: bytes
    details: str  # for Envoy's access log: `ext_proc_<reason>`


@final
class WaitFor(msgspec.Struct, frozen=True, gc=False):
    """Feed `DeadlineReached` after this time, unless the stream has ended."""

    seconds: float


class Outcome(StrEnum):
    """How an exchange ended, for metrics and logs."""

    __hash__ = str.__hash__  # so that it is found as a label by its text, and without a function in Python

    SERVED = "served"  # an engine answered below 400
    ANSWERED = "answered"  # the gateway answered by itself
    REFUSED = "refused"  # the gateway refused
    ENGINE_ERROR = "engine_error"  # an engine answered 400 or above
    ENVOY_ERROR = "envoy_error"  # Envoy answered: nothing reachable, timeout, too large
    CANCELLED = "cancelled"  # the stream ended before any answer
    INTERNAL_ERROR = "internal_error"  # a bug of ours


class Assigned(msgspec.Struct, frozen=True, gc=False):
    """Fact: the exchange was assigned to an endpoint, whose load grows by one."""

    identity: str
    batch: bool = False  # the request is a line of a batch
    request_id: str = ""
    query: RouteQuery | None = None  # that it was placed by
    prefill: bool = False  # another engine computes its prompt first; `Forwarded` follows


class Forwarded(msgspec.Struct, frozen=True, gc=False):
    """Fact: after a prefill the exchange goes to the endpoint that it was assigned to."""

    identity: str
    request_id: str
    query: RouteQuery | None
    transferred: bool  # whether the endpoint takes the KV cache of the prompt over from another one


class Moved(msgspec.Struct, frozen=True, gc=False):
    """Fact: Envoy's retry took the exchange to another candidate."""

    from_identity: str
    to_identity: str
    batch: bool = False
    request_id: str = ""


class OwnerChanged(msgspec.Struct, frozen=True, gc=False):
    """Fact: the owner of a response is another endpoint than the first candidate, so its id alone does not find it."""

    at: float
    response_id: str
    identity: str


class Finished(msgspec.Struct, frozen=True, gc=False):
    """Fact: the exchange is over. Exactly one per exchange; what must happen once happens on it.

    Times are monotonic seconds, None when the exchange did not get that far.
    """

    request_id: str
    operation: str  # Operation.id, or "unknown"
    model: str | None
    caller: str
    stream: bool
    status: int  # what the client saw, 0 if it saw none
    outcome: Outcome
    cause: Cause
    problem: str | None  # key of the ERRORS row
    assigned_to: str | None  # identity of the endpoint whose load is to be released
    placement: Placement | None
    upstream_address: str
    body_bytes: int
    started_at: float | None
    placed_at: float | None
    response_at: float | None
    ended_at: float
    reservation: str = ""  # of a limited caller
    batch: bool = False


Reply = Continue | Immediate
Fact = Assigned | Forwarded | Moved | OwnerChanged | Finished
FACTS: Final[frozenset[type]] = frozenset({Assigned, Forwarded, Moved, OwnerChanged, Finished})
Output = Reply | Ask | Fact | WaitFor
