"""The lean transport: `http2.GrpcServer` with Process, the inlets and health on one port."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from aibrix_extproc.adapters.extproc.health import Health
from aibrix_extproc.adapters.extproc.lean_health import WatchCall, health_methods
from aibrix_extproc.adapters.extproc.lean_methods import PROCESS_PATH, InletCall, inlet_method, process_method
from aibrix_extproc.adapters.extproc.service import MESSAGE_OVERHEAD_BYTES, Inlet
from aibrix_extproc.adapters.extproc.session import Session
from aibrix_extproc.http2.handler import Method
from aibrix_extproc.http2.limits import ConnectionLimits
from aibrix_extproc.http2.listener_limits import ListenerLimits, Refusal
from aibrix_extproc.http2.server import GrpcServer
from aibrix_extproc.rope import LARGE_BYTES
from aibrix_extproc.tls.credentials import ServerCredentials

logger = logging.getLogger(__name__)

MAX_HEALTH_REQUEST_BYTES: Final = 4096  # the name of a service


class LeanTransport:
    """Implements `service.ExtProcServer`."""

    def __init__(
        self,
        new_session: Callable[[], Session],
        *,
        max_body_bytes: int,
        bounds: ListenerLimits | None = None,
        inlets: Mapping[str, Inlet] = MappingProxyType({}),
        on_refusal: Callable[[Refusal], None] = lambda _: None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._health = Health()
        self._health_server: GrpcServer | None = None
        self._listener_limits = bounds or ListenerLimits()
        self._on_refusal = on_refusal
        self._listening: set[InletCall] = set()
        self._watching: set[WatchCall] = set()
        methods: dict[bytes, Method] = {
            path.encode(): inlet_method(inlet, self._listening) for path, inlet in inlets.items()
        }
        methods |= health_methods(self._health, self._watching)
        methods[PROCESS_PATH] = process_method(new_session, loop)
        self._server = GrpcServer(
            methods,
            max_message_bytes=max_body_bytes + MESSAGE_OVERHEAD_BYTES,
            listener_limits=self._listener_limits,
            limits=_connection_limits(self._listener_limits),
            on_refusal=on_refusal,
        )

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return self._server.connections

    @property
    def running(self) -> int:
        """How many exchanges are open."""
        return self._server.running - len(self._listening) - len(self._watching)

    async def start(self, host: str, port: int, credentials: ServerCredentials | None = None) -> int:
        """Listen, live but not ready, and return the port. Raises OSError."""
        return await self._server.start(host, port, credentials)

    async def start_health(self, host: str, port: int) -> int:
        """Serve grpc.health.v1 on a port of its own, in plaintext, and return the port. Raises OSError."""
        server = GrpcServer(
            health_methods(self._health, set()),
            max_message_bytes=MAX_HEALTH_REQUEST_BYTES,
            listener_limits=self._listener_limits,
            on_refusal=self._on_refusal,
        )
        bound = await server.start(host, port)
        self._health_server = server
        return bound

    async def set_ready(self, ready: bool) -> None:
        """Set the status of every name that stands for readiness."""
        self._health.set_ready(ready)

    async def drain(self, *, notice_seconds: float, drain_seconds: float) -> None:
        """Become not ready, accept new streams during the notice, let running ones finish, stop."""
        self._health.set_ready(False)
        await asyncio.sleep(notice_seconds)
        logger.info("draining", extra={"running": self.running})
        for call in tuple(self._listening):
            call.end()
        self._health.close()
        await self._server.drain(drain_seconds)
        if self._health_server is not None:
            await self._health_server.drain(0.0)


def _connection_limits(limits: ListenerLimits) -> ConnectionLimits:
    """One connection may have all streams that its peer may have."""
    streams = min(limits.streams_of_peer, limits.streams)
    return ConnectionLimits(concurrent_streams=streams, whole_message_bytes=LARGE_BYTES)
