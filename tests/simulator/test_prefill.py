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


async def test_prompt_finds_in_the_cache_what_was_computed_while_it_waited(http: aiohttp.ClientSession) -> None:
    options = SimulatorOptions(prefill_base_ms=20, serial_prefill=True, prompt_tokens_details=True)
    async with Simulator(options) as sim:
        body = {"messages": [{"role": "user", "content": "x" * 2000}]}
        answers = await asyncio.gather(*(post(http, chat_url(sim), body) for _ in range(3)))
    details = [answer["usage"]["prompt_tokens_details"] or {} for _, answer in answers]
    assert sorted(one.get("cached_tokens", 0) > 0 for one in details) == [False, True, True]
