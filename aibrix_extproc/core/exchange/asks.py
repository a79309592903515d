"""Asks of the machine and their answers, each ask beside its answer. The dispatcher answers them.

A new ask needs a class here, a phase in `states.py`, its steps in `request_side.py`, and a row in the table of
`app/dispatch.py`.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, final

import msgspec

from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.contract.operations import Operation
from aibrix_extproc.core.openai.wire.prefill import Unsplit
from aibrix_extproc.core.openai.wire.request import RequestFacts
from aibrix_extproc.core.openai.wire.sizes import UNKNOWN, Sizes
from aibrix_extproc.core.placing import Caller, Placement, RouteQuery
from aibrix_extproc.core.routing.disaggregation.handover import Handover
from aibrix_extproc.core.routing.request import Place as Place  # stands there because placement is a function of it
from aibrix_extproc.rope import Rope

Headers = tuple[tuple[str, str], ...]


@final
class Authenticate(msgspec.Struct, frozen=True, gc=False):
    """May this caller use the operation?"""

    operation: Operation | None  # None: an unknown URL, refused after authentication
    authorization: str | None
    x_api_key: str | None
    api_key: str | None = None
    request_id: str = ""
    on_behalf: str | None = None  # the caller of a batch, signed by the metadata service's worker


class Admitted(msgspec.Struct, frozen=True, gc=False):
    """Answer to `Authenticate`: who calls."""

    caller: Caller
    signed: str = ""  # the caller as a header for the metadata service
    batch_id: str = ""  # of the batch that the request is a line of
    limits: Callable[[bool], Headers] | None = (
        None  # of a limited caller: headers of what is known, in Anthropic's form?
    )


@final
class Describe(msgspec.Struct, frozen=True, gc=False):
    """What does the gateway answer to an operation that no engine serves?"""

    operation: Operation
    parameters: Mapping[str, str]
    caller: Caller
    if_none_match: str = ""  # entity tags that the client has


class Described(msgspec.Struct, frozen=True, gc=False):
    """Answer to `Describe`: what the client gets."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Placed(msgspec.Struct, frozen=True, gc=False):
    """Answer to `Place`: where the request may go."""

    at: float
    placement: Placement
    answer_headers: tuple[tuple[str, str], ...] = ()  # about the placement, for the client
    response_id: str | None = None  # the id that the engine shall give to the response, if the operation makes one
    engine_load: Callable[[], str] | None = None  # of the model's engines at the moment of the call, for batch workers
    handover: Handover | None = None  # the prefill engines that compute the prompt; None: nobody else is asked
    engine_headers: Headers = ()  # for the engine


class BodyRead(msgspec.Struct, frozen=True, gc=False):
    """Answer to `Read` and `ReadLarge`: what a body says, or why it is refused."""

    facts: RequestFacts | Problem


@final
class Read(msgspec.Struct, frozen=True, gc=False):
    """Read a long body: call `step` until it returns an answer. Each takes milliseconds; other work may run between."""

    step: Callable[[], BodyRead | None]


@final
class ReadLarge(msgspec.Struct, frozen=True, gc=False):
    """Read a JSON body that is too large for one turn of the event loop."""

    body: Rope
    sizes: bool  # whether the sizes of prompt and answer are needed
    prefix_seed: int = 0  # not 0: the prefix is needed, made with it


@final
class Reserve(msgspec.Struct, frozen=True, gc=False):
    """May this request of a limited caller use what it asks for? Sizes that are not known are estimated."""

    operation: Operation
    model: str  # empty if the operation has none
    caller: Caller
    body_bytes: int
    sizes: Sizes = UNKNOWN
    has_media: bool = False


class Reserved(msgspec.Struct, frozen=True, gc=False):
    """Answer to `Reserve`: it was taken from every limit."""

    reservation: str  # by this it is settled; empty if nothing was taken
    answer_headers: Headers | None = None  # None: what is known of the limits


@final
class Prefill(msgspec.Struct, frozen=True, gc=False):
    """Let a prefill engine compute the prompt of a request that is placed."""

    handover: Handover
    query: RouteQuery
    path: str  # at the engine
    body: bytes | Unsplit  # for the prefill engine, or why there is none
    request_id: str
    waited_seconds: float = 0.0  # since the message that Envoy waits for an answer to


class PrefillDone(msgspec.Struct, frozen=True, gc=False):
    """Answer to `Prefill`. Without `transfer` the engine that answers computes the prompt itself."""

    at: float
    transfer: bytes = b""  # a JSON object: where its KV cache is


class Refused(msgspec.Struct, frozen=True, gc=False):
    """Answer to any ask: the client gets a problem instead."""

    problem: Problem


Ask = Authenticate | Describe | Place | Prefill | Read | ReadLarge | Reserve
Answer = Admitted | Described | BodyRead | Placed | PrefillDone | Reserved | Refused
ANSWERS: Final[frozenset[type]] = frozenset({Admitted, Described, BodyRead, Placed, PrefillDone, Reserved, Refused})


@final
class Pending(msgspec.Struct, frozen=True, gc=False):
    """In place of an answer that is not at hand. It comes within `seconds`, if only as a refusal."""

    wait: Callable[[], Awaitable[Answer]]  # may be cancelled
    seconds: float
    drop: Callable[[], None]  # call it if `wait` is never called
