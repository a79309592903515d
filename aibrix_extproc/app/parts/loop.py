"""Watches how late the event loop is."""

from collections.abc import Callable

from aibrix_extproc.adapters.telemetry.loop_delay import watch_loop
from aibrix_extproc.app.parts.part import Part


class LoopWatch(Part):
    """Measures how late the event loop is; calls `observe` with each delay in seconds."""

    name = "loop"

    def __init__(self, observe: Callable[[float], None]) -> None:
        self._observe = observe

    async def run(self) -> None:
        """Look until cancelled."""
        await watch_loop(self._observe)
