"""What both transports have in common: names of services, and the interface that the application drives them by."""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from aibrix_extproc.adapters.extproc.session import Session
from aibrix_extproc.tls.credentials import ServerCredentials

SERVICE: Final = "envoy.service.ext_proc.v3.ExternalProcessor"
LIVENESS: Final = "liveness"
# The last two are the names that other gateways ask for.
READINESS: Final = ("", "readiness", SERVICE, "inference-extension", "gateway-plugin")
MESSAGE_OVERHEAD_BYTES: Final = 1024 * 1024  # headers and attributes beside a body of the largest size

Inlet = Callable[[bytes], None]
"""Takes each message of a method that only listens, such as the access log. Envoy or the drain ends the stream."""


def rearmed(
    timer: asyncio.TimerHandle | None, session: Session, loop: asyncio.AbstractEventLoop, expire: Callable[[], None]
) -> asyncio.TimerHandle | None:
    """The timer of a session: a new one if the session has set `wait_seconds`, else this one."""
    seconds, session.wait_seconds = session.wait_seconds, None
    if seconds is None:
        return timer
    if timer is not None:
        timer.cancel()
    return loop.call_later(seconds, expire)


class ExtProcServer(Protocol):
    """A transport: serves Process and grpc.health.v1 on one port, and on request grpc.health.v1 on another."""

    @property
    def running(self) -> int:
        """How many exchanges are open."""
        ...

    @property
    def connections(self) -> int | None:
        """How many connections are open; None if the transport does not know."""
        ...

    async def start(self, host: str, port: int, credentials: ServerCredentials | None = None) -> int:
        """Listen, live but not ready, with TLS if there are credentials, and return the port. Raises OSError."""
        ...

    async def start_health(self, host: str, port: int) -> int:
        """Serve grpc.health.v1 alone, in plaintext, until the drain is over, and return the port. Raises OSError."""
        ...

    async def set_ready(self, ready: bool) -> None:
        """Set the status of every name that stands for readiness."""
        ...

    async def drain(self, *, notice_seconds: float, drain_seconds: float) -> None:
        """Become not ready, accept new streams during the notice, let running ones finish, stop."""
        ...
