"""The frame of a process: it starts an event loop, runs the parts, serves until a signal comes, and drains."""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final

import uvloop

from aibrix_extproc.adapters.telemetry import logs
from aibrix_extproc.app.listening import StartError
from aibrix_extproc.app.parts.part import Part
from aibrix_extproc.settings import LogSettings

EXIT_SETTINGS: Final = 2


def run_process(log: LogSettings, serve: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """Run `serve` to its end; 0 after an orderly end, 2 and a sentence if the process cannot start."""
    logs.configure(log.level, log.format)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve())
    except StartError as error:
        print(f"aibrix-extproc: {error}", file=sys.stderr)  # noqa: T201 (the last word to whoever started us)
        return EXIT_SETTINGS
    return 0


def stop_signal() -> asyncio.Event:
    """Set when SIGTERM or SIGINT comes, from now on."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


async def nothing() -> None:
    """A step that a process does not have."""


class Frame:
    """Runs the parts of a process."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = parts
        self.draining = False

    async def run(
        self,
        stop: asyncio.Event,
        *,
        on_known: Callable[[], Awaitable[None]] = nothing,
        drain: Callable[[], Awaitable[None]] = nothing,
    ) -> None:
        """Run until `stop` is set and `drain` has returned. `on_known`: all parts are known and no drain has begun."""
        async with asyncio.TaskGroup() as group:
            tasks = [(part, group.create_task(part.run(), name=part.name)) for part in self.parts]
            knowing = group.create_task(self._wait_known(on_known))
            await stop.wait()
            self.draining = True
            for part, task in tasks:
                if part.ends_before_drain:
                    task.cancel()
            await drain()
            knowing.cancel()
            for _, task in tasks:
                task.cancel()

    async def _wait_known(self, on_known: Callable[[], Awaitable[None]]) -> None:
        for part in self.parts:
            await part.wait_known()
        if not self.draining:
            await on_known()
