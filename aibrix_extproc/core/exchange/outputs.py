"""What the machine answers: replies to Envoy, asks to the shell, facts for whoever observes.

Those that are final are told apart by `type(...) is`: an isinstance that fails takes four times as long, and an
exchange has dozens.
"""

from enum import StrEnum
from typing import Final, final

import msgspec

from aibrix_extproc.core.exchange.asks import Ask
from aibrix_extproc.core.exchange.events import Cause
from aibrix_extproc.core.placing import Placement
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


Headers = tuple[tuple[str, str], ...]


@final
class Notes(msgspec.Struct, frozen=True, gc=False):
    """What a placement leaves in Envoy, for the stream filter and for the access log."""

    request_id: str
    operation: str
    model: str
    caller: str
    stream: str  # how the operation streams if it does: whether this answer does, its content type tells
    hide_usage: bool  # the usage event was asked for by the gateway, not by the client
    sealed: bytes = b""  # what is charged, and proof that it is ours; empty until it is sealed


@final
class Continue(msgspec.Struct, frozen=True, gc=False):
    """Go on, with changes. An empty one is the cheapest answer there is."""

    phase: Phase
    set_headers: Headers = ()
    remove_headers: tuple[str, ...] = ()
    body: bytes | None = None  # replaces the body; content-length is the machine's to set
    large_body: Rope | None = None  # in place of `body`
    destination: str | None = None  # also as dynamic metadata envoy.lb; clears the route cache
    notes: Notes | None = None  # dynamic metadata
    buffer_response: bool = False  # mode override: send us the whole response body
    skip_body: bool = False  # mode override: the request's body passes us by; clears the route cache


@final
class Immediate(msgspec.Struct, frozen=True, gc=False):
    """The final answer, made here; Envoy sends it and drops whatever an engine said."""

    status: int
    headers: Headers
    body: bytes
    details: str  # for Envoy's access log: `ext_proc_<reason>`


@final
class WaitFor(msgspec.Struct, frozen=True, gc=False):
    """The shell shall come back with `DeadlineReached` after this time, unless the stream has ended."""

    seconds: float


class Outcome(StrEnum):
    """How an exchange ended, for metrics and logs."""

    SERVED = "served"  # an engine answered below 400
    ANSWERED = "answered"  # the gateway answered by itself
    REFUSED = "refused"  # the gateway refused
    ENGINE_ERROR = "engine_error"  # an engine answered 400 or above
    ENVOY_ERROR = "envoy_error"  # Envoy answered: nothing reachable, timeout, too large
    CANCELLED = "cancelled"  # the stream ended before any answer
    INTERNAL_ERROR = "internal_error"  # a bug of ours


class Taken(msgspec.Struct, frozen=True, gc=False):
    """Fact: one more exchange is with an endpoint."""

    identity: str


class Moved(msgspec.Struct, frozen=True, gc=False):
    """Fact: Envoy's retry took the exchange to another candidate."""

    from_identity: str
    to_identity: str


class OwnerChanged(msgspec.Struct, frozen=True, gc=False):
    """Fact: another engine than the first candidate has made a response, so that its id alone does not find it."""

    at: float
    response_id: str
    identity: str


class Finished(msgspec.Struct, frozen=True, gc=False):
    """Fact: the exchange is over. Exactly one per exchange; everything that must happen once hangs on it.

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
    holding: str | None  # identity of the endpoint whose load is to be released
    placement: Placement | None
    upstream_address: str
    body_bytes: int
    started_at: float | None
    placed_at: float | None
    response_at: float | None
    ended_at: float


Reply = Continue | Immediate
Fact = Taken | Moved | OwnerChanged | Finished
FACTS: Final[frozenset[type]] = frozenset({Taken, Moved, OwnerChanged, Finished})
Output = Reply | Ask | Fact | WaitFor
