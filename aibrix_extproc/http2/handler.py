"""The interface of a gRPC method: a handler for each call, and the responder for answers that come later."""

from collections.abc import Callable, Coroutine, Iterable
from enum import StrEnum
from typing import Any, Protocol

from aibrix_extproc.http2.frames import Piece


class CallOutcome(StrEnum):
    """How a call ended."""

    COMPLETED = "completed"  # the server sent the status OK
    CANCELLED = "cancelled"  # the peer reset the stream in a way that is no error
    FAILED = "failed"  # the call ended with another status, or its connection broke


class Responder(Protocol):
    """What a handler uses to answer later than in the call of its method. Once the call is over it does nothing."""

    def send(self, messages: Iterable[bytes]) -> None:
        """Send messages."""

    def send_framed(self, data: Iterable[Piece]) -> None:
        """Send pieces of messages that have their length prefix already."""

    @property
    def congested(self) -> bool:
        """Whether answers wait in the socket because the peer does not read them."""

    def start(self, waiting: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine in a task. The end of the call cancels it. Further messages wait until it is done."""

    def finish(self) -> None:
        """End the call with the status OK."""


class Handler(Protocol):
    """One call of one method. A CallError ends the call with its status, any other exception with INTERNAL."""

    def message(self, payload: bytes) -> Iterable[bytes]:
        """Take a message and return the answers that are at hand."""

    def large_message(self, pieces: tuple[Piece, ...]) -> Iterable[bytes]:
        """Take a message of more than `ConnectionLimits.whole_message_bytes`, in the pieces in which it came.

        A message that came in a single read is never large.
        """

    def half_closed(self) -> Iterable[bytes]:
        """The client has sent its last message; return the last answers."""

    def closed(self, outcome: CallOutcome) -> None:
        """The call is over. Called exactly once."""


Method = Callable[[Responder], Handler]
"""Makes the handler of a new call."""
