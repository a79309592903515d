"""grpc.health.v1 as both transports answer it: names, readiness, and watchers that hear of changes."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

from grpc_health.v1.health_pb2 import HealthCheckResponse

from aibrix_extproc.adapters.extproc.service import LIVENESS, READINESS

MAX_WATCHERS: Final = 100  # each is a task; Kubernetes and Envoy do not watch, they check
_SERVING: Final = int(HealthCheckResponse.SERVING)
_NOT_SERVING: Final = int(HealthCheckResponse.NOT_SERVING)
_UNKNOWN: Final = int(HealthCheckResponse.SERVICE_UNKNOWN)


class TooManyWatchers(Exception):
    """There is no room for one more watcher."""


class Health:
    """Live from the beginning, ready when told."""

    def __init__(self) -> None:
        self._ready = False
        self._closed = False
        self._watchers: set[asyncio.Event] = set()

    def set_ready(self, ready: bool) -> None:
        """What is answered for every name that means readiness."""
        self._ready = ready
        self._tell()

    def close(self) -> None:
        """End every watch, once it has heard the latest status."""
        self._closed = True
        self._tell()

    def _tell(self) -> None:
        for watcher in self._watchers:
            watcher.set()

    def status(self, name: str) -> int | None:
        """Of a service; None for an unknown one."""
        if name == LIVENESS:
            return _SERVING
        if name not in READINESS:
            return None
        return _SERVING if self._ready else _NOT_SERVING

    async def watch(self, name: str) -> AsyncGenerator[bytes, None]:
        """The status now and after each change, until `close`, as messages. Raises TooManyWatchers."""
        if len(self._watchers) >= MAX_WATCHERS:
            raise TooManyWatchers
        told = asyncio.Event()
        self._watchers.add(told)
        said: int | None = None
        try:
            while True:
                told.clear()
                found = self.status(name)
                status = _UNKNOWN if found is None else found
                if status != said:
                    said = status
                    yield answer(status)
                if self._closed:
                    return
                await told.wait()
        finally:
            self._watchers.discard(told)


def answer(status: int) -> bytes:
    """A status on the wire."""
    return bytes(HealthCheckResponse(status=status).SerializeToString())
