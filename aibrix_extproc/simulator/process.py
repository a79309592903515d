"""Runs one engine as a process, until a signal ends it."""

import asyncio
import signal
import sys

import uvloop

from aibrix_extproc.simulator.options import SimulatorOptions
from aibrix_extproc.simulator.server import Simulator


def serve(options: SimulatorOptions) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code."""
    uvloop.run(_serve(options))
    return 0


async def _serve(options: SimulatorOptions) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with Simulator(options) as simulator:
        # Programs that start us wait for this line: it is the one promise about our output.
        sys.stdout.write(f"listening on {simulator.url}\n")
        sys.stdout.flush()
        await stopped.wait()
