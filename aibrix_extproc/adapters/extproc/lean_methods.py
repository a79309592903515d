"""The ext_proc methods of the lean transport: Process, and the inlets that only listen."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Final

from google.protobuf.message import DecodeError

from aibrix_extproc.adapters.extproc._generated.external_processor_pb2 import ProcessingRequest
from aibrix_extproc.adapters.extproc.large_message import parse_large_message
from aibrix_extproc.adapters.extproc.outgoing import Outgoing, all_small, whole_messages
from aibrix_extproc.adapters.extproc.send_steps import CONGESTED_SECONDS, steps
from aibrix_extproc.adapters.extproc.service import Inlet, rearmed
from aibrix_extproc.adapters.extproc.session import Session
from aibrix_extproc.core.exchange.events import Cause
from aibrix_extproc.http2.frames import Piece
from aibrix_extproc.http2.handler import CallOutcome, Method, Responder
from aibrix_extproc.http2.status import CallError, Status
from aibrix_extproc.rope import rope_of

PROCESS_PATH: Final = b"/envoy.service.ext_proc.v3.ExternalProcessor/Process"
_CAUSES: Final[Mapping[CallOutcome, Cause]] = MappingProxyType(
    {
        CallOutcome.COMPLETED: Cause.HALF_CLOSED,
        CallOutcome.CANCELLED: Cause.CANCELLED,
        CallOutcome.FAILED: Cause.FAILED,
    }
)


class ProcessCall:
    """One exchange. Every message is answered at once, unless the session waits for something."""

    def __init__(self, session: Session, responder: Responder, loop: asyncio.AbstractEventLoop) -> None:
        self._session = session
        self._responder = responder
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        session.expire_now = self._expire
        self._sending = False  # a large answer, in steps

    def message(self, payload: bytes) -> Iterable[bytes]:
        """Answer one message of Envoy."""
        try:
            message = ProcessingRequest.FromString(payload)
        except DecodeError as error:
            raise CallError(Status.INTERNAL, "a message cannot be parsed") from error
        return self._answer(self._session.receive(message))

    def large_message(self, pieces: tuple[Piece, ...]) -> Iterable[bytes]:
        """Answer one message with a large body."""
        try:
            message = parse_large_message(rope_of(pieces))
        except DecodeError as error:
            raise CallError(Status.INTERNAL, "a message cannot be parsed") from error
        return self._answer(self._session.receive_large(message))

    def _answer(self, replies: list[Outgoing]) -> Iterable[bytes]:
        session = self._session
        if session.pending is not None or not all_small(replies):
            self._responder.start(self._wait(replies))
            return ()
        if session.wait_seconds is not None:
            self._arm()
        return replies

    async def _wait(self, replies: list[Outgoing]) -> None:
        session = self._session
        self._arm()
        await self._send(replies)
        while session.pending is not None:
            await self._send(session.resume(await session.pending))
            self._arm()

    async def _send(self, replies: list[Outgoing]) -> None:
        """Send small messages at once, and large ones in several turns of the loop."""
        for reply in replies:
            if isinstance(reply, bytes):
                self._responder.send((reply,))
                continue
            self._sending = True
            for step in steps(reply):
                self._responder.send_framed(step)
                await asyncio.sleep(CONGESTED_SECONDS if self._responder.congested else 0)
            self._sending = False

    def _arm(self) -> None:
        self._timer = rearmed(self._timer, self._session, self._loop, self._expire)

    def _expire(self) -> None:
        if self._sending:  # another message must not stand in the middle of a large one
            self._timer = self._loop.call_later(CONGESTED_SECONDS, self._expire)
            return
        self._responder.send(whole_messages(self._session.expire()))

    def half_closed(self) -> Iterable[bytes]:
        """Envoy sends nothing more, and nothing is left to answer."""
        return ()

    def closed(self, outcome: CallOutcome) -> None:
        """Close the session."""
        if self._timer is not None:
            self._timer.cancel()
        self._session.close(_CAUSES[outcome])


def process_method(new_session: Callable[[], Session], loop: asyncio.AbstractEventLoop) -> Method:
    """The method for PROCESS_PATH."""
    return lambda responder: ProcessCall(new_session(), responder, loop)


class InletCall:
    """A call of a method that only listens. It has no end of its own, so the drain calls `end`."""

    def __init__(self, inlet: Inlet, responder: Responder, listening: "set[InletCall]") -> None:
        self._inlet = inlet
        self._responder = responder
        self._listening = listening
        listening.add(self)

    def message(self, payload: bytes) -> Iterable[bytes]:
        """Pass the message to the inlet."""
        self._inlet(payload)
        return ()

    def large_message(self, pieces: tuple[Piece, ...]) -> Iterable[bytes]:
        """Pass the message to the inlet."""
        return self.message(b"".join(pieces))

    def half_closed(self) -> Iterable[bytes]:
        """The answer of such a method is an empty message."""
        return (b"",)

    def closed(self, outcome: CallOutcome) -> None:
        """Remove the call from the open ones."""
        self._listening.discard(self)

    def end(self) -> None:
        """End the call from our side."""
        self._responder.finish()


def inlet_method(inlet: Inlet, listening: set[InletCall]) -> Method:
    """The method for an inlet's path. `listening` gets its open calls."""
    return lambda responder: InletCall(inlet, responder, listening)
