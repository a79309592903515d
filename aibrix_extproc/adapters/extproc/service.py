"""What both transports have in common: names of services, and the interface that the application drives them by."""

from collections.abc import Callable
from typing import Final, Protocol

SERVICE: Final = "envoy.service.ext_proc.v3.ExternalProcessor"
LIVENESS: Final = "liveness"
READINESS: Final = ("", "readiness", SERVICE, "inference-extension")
MESSAGE_OVERHEAD_BYTES: Final = 1024 * 1024  # headers and attributes beside a body of the largest size


Inlet = Callable[[bytes], None]
"""Takes each message of a method that only listens (the access log, say), until Envoy or the drain ends the stream."""


class ExtProcServer(Protocol):
    """A transport that serves Process and grpc.health.v1 on one port."""

    @property
    def running(self) -> int:
        """Streams that are open now."""
        ...

    async def start(self, host: str, port: int) -> int:
        """Listen, live but not ready; returns the port. Raises OSError if that is impossible."""
        ...

    async def set_ready(self, ready: bool) -> None:
        """What the health service answers for every name that means readiness."""
        ...

    async def drain(self, *, notice_seconds: float, drain_seconds: float) -> None:
        """Go out of service: not ready at once, take new streams for the notice, finish running ones, stop."""
        ...
