import asyncio
import time

from aibrix_extproc.adapters.telemetry.loop_delay import watch_loop


async def test_loop_delay_is_seen_when_something_blocks_the_loop() -> None:
    seen: list[float] = []
    blocked = asyncio.Event()

    def observe(seconds: float) -> None:
        seen.append(seconds)
        if seconds > 0.05:
            blocked.set()

    watching = asyncio.create_task(watch_loop(observe, interval=0.005))
    await asyncio.sleep(0)
    time.sleep(0.1)  # noqa: ASYNC251 - the hog
    await asyncio.wait_for(blocked.wait(), 60)
    watching.cancel()
    assert min(seen) >= 0
