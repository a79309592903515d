"""The lean transport as the application drives it: Process and health on one port."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from types import MappingProxyType

from aibrix_extproc.adapters.extproc.lean.memory import keep_freed_memory
from aibrix_extproc.adapters.extproc.lean.methods import (
    HEALTH_PATH,
    PROCESS_PATH,
    InletCall,
    health_method,
    inlet_method,
    process_method,
)
from aibrix_extproc.adapters.extproc.lean.server import LeanServer
from aibrix_extproc.adapters.extproc.service import LIVENESS, MESSAGE_OVERHEAD_BYTES, READINESS, Inlet
from aibrix_extproc.adapters.extproc.session import Session

logger = logging.getLogger(__name__)


class LeanTransport:
    """Fits `service.ExtProcServer`."""

    def __init__(
        self,
        new_session: Callable[[], Session],
        *,
        max_body_bytes: int,
        inlets: Mapping[str, Inlet] = MappingProxyType({}),
    ) -> None:
        loop = asyncio.get_running_loop()
        self._ready = False
        self._listening: set[InletCall] = set()
        listeners = {path.encode(): inlet_method(inlet, self._listening) for path, inlet in inlets.items()}
        self._server = LeanServer(
            {PROCESS_PATH: process_method(new_session, loop), HEALTH_PATH: health_method(self._serving), **listeners},
            max_message_bytes=max_body_bytes + MESSAGE_OVERHEAD_BYTES,
        )

    @property
    def running(self) -> int:
        """Streams that are open now."""
        return self._server.running - len(self._listening)

    def _serving(self, name: str) -> bool | None:
        if name == LIVENESS:
            return True
        return self._ready if name in READINESS else None

    async def start(self, host: str, port: int) -> int:
        """Listen, live but not ready; returns the port."""
        keep_freed_memory()
        return await self._server.start(host, port)

    async def set_ready(self, ready: bool) -> None:
        """What the health service answers for every name that means readiness."""
        self._ready = ready

    async def drain(self, *, notice_seconds: float, drain_seconds: float) -> None:
        """Not ready at once, take new streams for the notice, finish running ones, stop."""
        self._ready = False
        await asyncio.sleep(notice_seconds)
        logger.info("draining", extra={"running": self.running})
        for call in tuple(self._listening):
            call.end()
        await self._server.drain(drain_seconds)
