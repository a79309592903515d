"""Several simulated engines in one process: a fleet starts in the time of one. A JSON array of arguments each."""

import argparse
import asyncio
import contextlib
import json
import signal
import sys

import uvloop

from aibrix_extproc.simulator import cli
from aibrix_extproc.simulator.server import Simulator


async def _serve(fleets: list[list[str]]) -> None:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with contextlib.AsyncExitStack() as stack:
        for arguments in fleets:
            options = cli.options_from(parser.parse_args(arguments))
            simulator = await stack.enter_async_context(Simulator(options))
            sys.stdout.write(f"listening on {simulator.url}\n")
        sys.stdout.write("all started\n")
        sys.stdout.flush()
        await stopped.wait()


if __name__ == "__main__":
    uvloop.run(_serve(json.loads(sys.argv[1])))
