"""Measures how late the event loop is: every exchange waits at least as long."""

import asyncio
from collections.abc import Callable
from typing import Final

INTERVAL_SECONDS: Final = 0.05  # a stall of this length is always seen, a shorter one now and then


async def watch_loop(observe: Callable[[float], None], interval: float = INTERVAL_SECONDS) -> None:
    """Call `observe` with the seconds by which a timer was late, until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + interval
        await asyncio.sleep(interval)
        observe(max(0.0, loop.time() - due))
