"""The state behind grpc.health.v1 on both transports: names, readiness, and watchers of changes."""

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
    """The limit of watchers is reached."""


class Health:
    """Live from the beginning; ready once `set_ready` says so."""

    def __init__(self) -> None:
        self._ready = False
        self._closed = False
        self._watchers: set[asyncio.Event] = set()

    def set_ready(self, ready: bool) -> None:
        """Set the status of every name that stands for readiness."""
        self._ready = ready
        self._notify()

    def close(self) -> None:
        """End every watch after it has sent the latest status."""
        self._closed = True
        self._notify()

    def _notify(self) -> None:
        for watcher in self._watchers:
            watcher.set()

    def status(self, name: str) -> int | None:
        """The status of a service; None for an unknown name."""
        if name == LIVENESS:
            return _SERVING
        if name not in READINESS:
            return None
        return _SERVING if self._ready else _NOT_SERVING

    async def watch(self, name: str) -> AsyncGenerator[bytes, None]:
        """Serialised answers: the status now and after each change, until `close`. Raises TooManyWatchers."""
        if len(self._watchers) >= MAX_WATCHERS:
            raise TooManyWatchers
        changed = asyncio.Event()
        self._watchers.add(changed)
        sent: int | None = None
        try:
            while True:
                changed.clear()
                found = self.status(name)
                status = _UNKNOWN if found is None else found
                if status != sent:
                    sent = status
                    yield answer(status)
                if self._closed:
                    return
                await changed.wait()
        finally:
            self._watchers.discard(changed)


def answer(status: int) -> bytes:
    """A serialised answer."""
    return bytes(HealthCheckResponse(status=status).SerializeToString())
