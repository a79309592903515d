"""grpc.health.v1 on the lean transport."""

from collections.abc import Iterable
from typing import Final

from google.protobuf.message import DecodeError
from grpc_health.v1.health_pb2 import HealthCheckRequest

from aibrix_extproc.adapters.extproc.health import Health, TooManyWatchers, answer
from aibrix_extproc.http2.frames import Piece
from aibrix_extproc.http2.handler import CallOutcome, Method, Responder
from aibrix_extproc.http2.status import CallError, Status

CHECK_PATH: Final = b"/grpc.health.v1.Health/Check"
WATCH_PATH: Final = b"/grpc.health.v1.Health/Watch"


class _HealthCall:
    """What both methods have in common: one request that names a service."""

    def large_message(self, pieces: tuple[Piece, ...]) -> Iterable[bytes]:
        """Refuse it: the name of a service is short."""
        raise CallError(Status.RESOURCE_EXHAUSTED, "a name of a megabyte")

    def half_closed(self) -> Iterable[bytes]:
        """Nothing is left to answer."""
        return ()

    def closed(self, outcome: CallOutcome) -> None:
        """Nothing to release."""


class CheckCall(_HealthCall):
    """Check: the status of a service now."""

    def __init__(self, health: Health) -> None:
        self._health = health

    def message(self, payload: bytes) -> Iterable[bytes]:
        """Answer with the status of a service; NOT_FOUND for an unknown one."""
        status = self._health.status(_service(payload))
        if status is None:
            raise CallError(Status.NOT_FOUND, "unknown service")
        return (answer(status),)


class WatchCall(_HealthCall):
    """Watch: the status of a service now and after each change. Each call has a task, so their number is limited."""

    def __init__(self, health: Health, responder: Responder, watching: "set[WatchCall]") -> None:
        self._health = health
        self._responder = responder
        self._watching = watching
        watching.add(self)

    def message(self, payload: bytes) -> Iterable[bytes]:
        """Start the task."""
        self._responder.start(self._watch(_service(payload)))
        return ()

    async def _watch(self, name: str) -> None:
        try:
            async for status in self._health.watch(name):
                self._responder.send((status,))
        except TooManyWatchers as error:
            raise CallError(Status.RESOURCE_EXHAUSTED, "too many watchers") from error
        self._responder.finish()

    def closed(self, outcome: CallOutcome) -> None:
        """Remove the call from the open ones."""
        self._watching.discard(self)


def _service(payload: bytes) -> str:
    try:
        return str(HealthCheckRequest.FromString(payload).service)
    except DecodeError as error:
        raise CallError(Status.INTERNAL, "a message cannot be parsed") from error


def health_methods(health: Health, watching: set[WatchCall]) -> dict[bytes, Method]:
    """Check and Watch by path. `watching` gets the open calls of the latter."""
    return {
        CHECK_PATH: lambda _: CheckCall(health),
        WATCH_PATH: lambda responder: WatchCall(health, responder, watching),
    }
