"""The methods that the lean server has: Process, and the health check that Envoy and Kubernetes ask."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from google.protobuf.message import DecodeError
from grpc_health.v1.health_pb2 import HealthCheckRequest

from aibrix_extproc.adapters.extproc._generated.external_processor_pb2 import ProcessingRequest
from aibrix_extproc.adapters.extproc.health import Health, TooManyWatchers, answer
from aibrix_extproc.adapters.extproc.large_message import peel
from aibrix_extproc.adapters.extproc.outgoing import Outgoing, are_small, at_once
from aibrix_extproc.adapters.extproc.send_steps import CONGESTED_SECONDS, steps
from aibrix_extproc.adapters.extproc.service import Inlet, armed
from aibrix_extproc.adapters.extproc.session import Session
from aibrix_extproc.core.exchange.events import Cause
from aibrix_extproc.http2.handler import Handler, Reply
from aibrix_extproc.http2.status import CallError, Status
from aibrix_extproc.rope import Rope

PROCESS_PATH: Final = b"/envoy.service.ext_proc.v3.ExternalProcessor/Process"
CHECK_PATH: Final = b"/grpc.health.v1.Health/Check"
WATCH_PATH: Final = b"/grpc.health.v1.Health/Watch"


class ProcessCall:
    """One exchange: every message is answered at once unless the session waits for something."""

    def __init__(self, session: Session, reply: Reply, loop: asyncio.AbstractEventLoop) -> None:
        self._session = session
        self._reply = reply
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        session.expire_now = self._expire
        self._sending = False  # a large answer, piece by piece

    def message(self, payload: bytes | Rope) -> Iterable[bytes]:
        """Answer one message of Envoy."""
        session = self._session
        try:
            if isinstance(payload, Rope):
                replies = session.receive_peeled(peel(payload))
            else:
                replies = session.receive(ProcessingRequest.FromString(payload))
        except DecodeError as error:
            raise CallError(Status.INTERNAL, "a message cannot be parsed") from error
        if session.pending is not None or not are_small(replies):
            self._reply.start(self._wait(replies))
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
        """Send what is at hand at once, and a large answer in as many turns of the loop as it has steps."""
        for reply in replies:
            if isinstance(reply, bytes):
                self._reply.send((reply,))
                continue
            self._sending = True
            for step in steps(reply):
                self._reply.send_raw(step)
                await asyncio.sleep(CONGESTED_SECONDS if self._reply.congested else 0)
            self._sending = False

    def _arm(self) -> None:
        self._timer = armed(self._timer, self._session, self._loop, self._expire)

    def _expire(self) -> None:
        if self._sending:  # nothing fits into the middle of a message
            self._timer = self._loop.call_later(CONGESTED_SECONDS, self._expire)
            return
        self._reply.send(at_once(self._session.expire()))

    def half_closed(self) -> Iterable[bytes]:
        """Envoy has nothing more to say."""
        return ()

    def closed(self, cause: Cause) -> None:
        """Give the closing fact."""
        if self._timer is not None:
            self._timer.cancel()
        self._session.close(cause)


class CheckCall:
    """grpc.health.v1.Health/Check."""

    def __init__(self, health: Health) -> None:
        self._health = health

    def message(self, payload: bytes | Rope) -> Iterable[bytes]:
        """Whether a service takes work; an unknown name is NOT_FOUND."""
        status = self._health.status(_service(payload))
        if status is None:
            raise CallError(Status.NOT_FOUND, "unknown service")
        return (answer(status),)

    def half_closed(self) -> Iterable[bytes]:
        """One question, one answer."""
        return ()

    def closed(self, cause: Cause) -> None:
        """Nothing is held."""


class WatchCall:
    """grpc.health.v1.Health/Watch: the one kind of call that has a task, so there is a bound on them."""

    def __init__(self, health: Health, reply: Reply, watching: "set[WatchCall]") -> None:
        self._health = health
        self._reply = reply
        self._watching = watching
        watching.add(self)

    def message(self, payload: bytes | Rope) -> Iterable[bytes]:
        """Tell the status of a service, and each change of it."""
        self._reply.start(self._watch(_service(payload)))
        return ()

    async def _watch(self, name: str) -> None:
        try:
            async for status in self._health.watch(name):
                self._reply.send((status,))
        except TooManyWatchers as error:
            raise CallError(Status.RESOURCE_EXHAUSTED, "too many watchers") from error
        self._reply.finish()

    def half_closed(self) -> Iterable[bytes]:
        """One question, many answers."""
        return ()

    def closed(self, cause: Cause) -> None:
        """The peer or we ended it."""
        self._watching.discard(self)


def _service(payload: bytes | Rope) -> str:
    if isinstance(payload, Rope):
        raise CallError(Status.RESOURCE_EXHAUSTED, "a name of a megabyte")
    try:
        return str(HealthCheckRequest.FromString(payload).service)
    except DecodeError as error:
        raise CallError(Status.INTERNAL, "a message cannot be parsed") from error


class InletCall:
    """A method that only listens."""

    def __init__(self, inlet: Inlet, reply: Reply, listening: "set[InletCall]") -> None:
        self._inlet = inlet
        self._reply = reply
        self._listening = listening
        listening.add(self)

    def message(self, payload: bytes | Rope) -> Iterable[bytes]:
        """Take it; there is nothing to say."""
        self._inlet(payload.joined() if isinstance(payload, Rope) else payload)
        return ()

    def half_closed(self) -> Iterable[bytes]:
        """The answer of such a method: an empty message."""
        return (b"",)

    def closed(self, cause: Cause) -> None:
        """Envoy or we ended it."""
        self._listening.discard(self)

    def end(self) -> None:
        """It has no end of its own."""
        self._reply.finish()


def inlet_method(inlet: Inlet, listening: set[InletCall]) -> Callable[[Reply], Handler]:
    """The method behind an inlet's path; `listening` holds its open calls."""
    return lambda reply: InletCall(inlet, reply, listening)


def process_method(new_session: Callable[[], Session], loop: asyncio.AbstractEventLoop) -> Callable[[Reply], Handler]:
    """The method behind PROCESS_PATH."""
    return lambda reply: ProcessCall(new_session(), reply, loop)


def health_methods(health: Health, watching: set[WatchCall]) -> dict[bytes, Callable[[Reply], Handler]]:
    """Check and Watch by path; `watching` holds the open calls of the latter."""
    return {
        CHECK_PATH: lambda _: CheckCall(health),
        WATCH_PATH: lambda reply: WatchCall(health, reply, watching),
    }
