"""What both transports have in common: names of services, and the interface that the application drives them by."""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from aibrix_extproc.adapters.extproc.session import Session
from aibrix_extproc.tls.credentials import ServerCredentials

SERVICE: Final = "envoy.service.ext_proc.v3.ExternalProcessor"
LIVENESS: Final = "liveness"
READINESS: Final = ("", "readiness", SERVICE, "inference-extension", "gateway-plugin")  # the last two: names of others
MESSAGE_OVERHEAD_BYTES: Final = 1024 * 1024  # headers and attributes beside a body of the largest size

Inlet = Callable[[bytes], None]
"""Takes each message of a method that only listens (the access log, say), until Envoy or the drain ends the stream."""


def rearmed(
    timer: asyncio.TimerHandle | None, session: Session, loop: asyncio.AbstractEventLoop, expire: Callable[[], None]
) -> asyncio.TimerHandle | None:
    """The timer of a session that may wait for something else by now: its latest deadline is the one that counts."""
    seconds, session.wait_seconds = session.wait_seconds, None
    if seconds is None:
        return timer
    if timer is not None:
        timer.cancel()
    return loop.call_later(seconds, expire)


class ExtProcServer(Protocol):
    """A transport that serves Process and grpc.health.v1 on one port, and the latter on another one if asked to."""

    @property
    def running(self) -> int:
        """Streams that are open now."""
        ...

    @property
    def connections(self) -> int | None:
        """Connections that are open now; None if the transport does not tell."""
        ...

    async def start(self, host: str, port: int, credentials: ServerCredentials | None = None) -> int:
        """Listen, live but not ready, with TLS if there are credentials; returns the port.

        Raises OSError if that is impossible.
        """
        ...

    async def start_health(self, host: str, port: int) -> int:
        """Answer grpc.health.v1 alone, in plaintext, until the drain is over; returns the port. Raises OSError."""
        ...

    async def set_ready(self, ready: bool) -> None:
        """What the health service answers for every name that means readiness."""
        ...

    async def drain(self, *, notice_seconds: float, drain_seconds: float) -> None:
        """Go out of service: not ready at once, take new streams for the notice, finish running ones, stop."""
        ...
