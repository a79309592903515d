"""How long prompts take when many come at once."""

import asyncio

import aiohttp

from aibrix_extproc.simulator.options import SimulatorOptions
from aibrix_extproc.simulator.server import Simulator
from tests.simulator.conversation import chat_url, post


async def test_prompts_are_computed_one_after_the_other_if_so_told(http: aiohttp.ClientSession) -> None:
    options = SimulatorOptions(prefill_base_ms=50, serial_prefill=True, prefix_caching=False)
    async with Simulator(options) as sim:
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        body = {"messages": [{"role": "user", "content": "x"}]}
        await asyncio.gather(*(post(http, chat_url(sim), body) for _ in range(4)))
    assert loop.time() - started_at >= 0.2
