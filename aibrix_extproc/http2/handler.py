"""What a method of a lean server is: a handler for each call, and the reply that it may answer by later."""

from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Protocol

from aibrix_extproc.core.exchange.events import Cause
from aibrix_extproc.rope import Piece, Rope


class Reply(Protocol):
    """What a handler uses to answer later than at once."""

    def send(self, messages: Iterable[bytes]) -> None:
        """Send messages; nothing happens if the call is over."""

    def send_raw(self, data: Iterable[Piece]) -> None:
        """Send a piece of a message that has its length prefix already; nothing happens if the call is over."""

    @property
    def congested(self) -> bool:
        """Whether the peer does not take what was sent."""

    def start(self, waiting: Coroutine[Any, Any, None]) -> None:
        """Run something that really waits; cancelled when the call ends. Further messages wait for it."""

    def finish(self) -> None:
        """End the call well; nothing happens if it is over."""


class Handler(Protocol):
    """One call of one method. An exception ends the call with INTERNAL, a CallError with its status."""

    def message(self, payload: bytes | Rope) -> Iterable[bytes]:
        """A request message, a large one in pieces; the answers that are at hand."""

    def half_closed(self) -> Iterable[bytes]:
        """The client has said everything; the last answers."""

    def closed(self, cause: Cause) -> None:
        """The call is over; called exactly once."""


Method = Callable[[Reply], Handler]
