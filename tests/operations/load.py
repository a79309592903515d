"""Fifty mixed requests a second, whatever becomes of the ones before."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import openai

MESSAGES = [{"role": "user", "content": "hello"}]
TOKENS = 12


@dataclass
class Paced:
    """What clients saw."""

    sent: int = 0
    good: int = 0
    bad: list[str] = field(default_factory=list)
    slowest: float = 0.0


@contextlib.asynccontextmanager
async def paced_load(client: openai.AsyncOpenAI, model: str, per_second: float) -> AsyncIterator[Paced]:
    """Half of the requests stream. No retries."""
    load, stop = Paced(), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:

        async def pace() -> None:
            started = time.monotonic()
            while not stop.is_set():
                tasks.create_task(_one(client, load, model, stream=load.sent % 2 == 0))
                load.sent += 1
                await asyncio.sleep(max(started + load.sent / per_second - time.monotonic(), 0))

        tasks.create_task(pace())
        try:
            yield load
        finally:
            stop.set()


async def _one(client: openai.AsyncOpenAI, load: Paced, model: str, *, stream: bool) -> None:
    started = time.monotonic()
    headers = {"x-sim-itl-ms": "15", "x-sim-tokens": str(TOKENS)}
    try:
        if stream:
            answer = await client.chat.completions.create(
                model=model, messages=MESSAGES, stream=True, max_tokens=TOKENS, extra_headers=headers
            )
            reasons = [chunk.choices[0].finish_reason async for chunk in answer if chunk.choices]
            reason = reasons[-1] if reasons else None
        else:
            whole = await client.chat.completions.create(
                model=model, messages=MESSAGES, max_tokens=TOKENS, extra_headers=headers
            )
            reason = whole.choices[0].finish_reason
    except (openai.APIError, OSError) as error:
        load.bad.append(f"{stream=} {error!r}"[:300])
        return
    load.slowest = max(load.slowest, time.monotonic() - started)
    if reason in ("stop", "length"):
        load.good += 1
    else:
        load.bad.append(f"{stream=} ends with {reason}")
