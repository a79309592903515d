"""What the machine asks the shell, and the answers: each ask stands beside its answer.

A new ask has its place here, a phase in `states.py`, its steps in `request_side.py`, and a row in the table of
`app/dispatch.py`.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, final

import msgspec

from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.contract.operations import Operation
from aibrix_extproc.core.openai.wire.request import RequestFacts
from aibrix_extproc.core.openai.wire.sizes import UNKNOWN, Sizes
from aibrix_extproc.core.placing import Caller, Placement
from aibrix_extproc.core.routing.request import Place as Place  # stands there because placement is a function of it
from aibrix_extproc.rope import Rope


@final
class Authenticate(msgspec.Struct, frozen=True, gc=False):
    """May this caller use the operation?"""

    operation: Operation | None  # None: an unknown URL, refused after authentication
    authorization: str | None
    x_api_key: str | None
    api_key: str | None = None
    request_id: str = ""
    on_behalf: str | None = None  # who the worker of batches speaks for, signed


class Admitted(msgspec.Struct, frozen=True, gc=False):
    """Answer to `Authenticate`: who calls."""

    caller: Caller
    signed: str = ""  # for the metadata service, which believes nothing else


@final
class Describe(msgspec.Struct, frozen=True, gc=False):
    """What does the gateway itself answer to this operation?"""

    operation: Operation
    parameters: Mapping[str, str]
    caller: Caller


class Answered(msgspec.Struct, frozen=True, gc=False):
    """Answer to `Describe`: what the client gets."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Placed(msgspec.Struct, frozen=True, gc=False):
    """Answer to `Place`: where the request may go."""

    at: float
    placement: Placement
    answer_headers: tuple[tuple[str, str], ...] = ()  # for the client, with the answer of an engine or of the gateway
    response_id: str | None = None  # the id that the engine shall give to the response, if the operation makes one


class BodyRead(msgspec.Struct, frozen=True, gc=False):
    """Answer to `Read` and `ReadLarge`: what a body says, or why it is refused."""

    facts: RequestFacts | Problem
    sizes: Sizes = UNKNOWN


@final
class Read(msgspec.Struct, frozen=True, gc=False):
    """Read a long body: call `step`, a few milliseconds each, and let others work between, until it gives an event."""

    step: Callable[[], BodyRead | None]


@final
class ReadLarge(msgspec.Struct, frozen=True, gc=False):
    """Read a large JSON body, which is too much for one turn."""

    body: Rope
    sizes: bool  # whether the sizes of prompt and answer are asked for


class Refused(msgspec.Struct, frozen=True, gc=False):
    """Answer to any ask: the client gets a problem instead."""

    problem: Problem


Ask = Authenticate | Describe | Place | Read | ReadLarge
Answer = Admitted | Answered | BodyRead | Placed | Refused
ANSWERS: Final[frozenset[type]] = frozenset({Admitted, Answered, BodyRead, Placed, Refused})


@final
class Pending(msgspec.Struct, frozen=True, gc=False):
    """In place of an answer: it has to be waited for. It comes within `seconds`, if only as a refusal."""

    wait: Callable[[], Awaitable[Answer]]  # whoever is cancelled while it waits leaves nothing behind
    seconds: float
    drop: Callable[[], None]  # in place of `wait`: nobody will
