"""Limits: whether they are exact over gateways, and what they cost. `python -m benchmarks.limits exact|cost`.

`exact`: three gateways' counters on one Redis, 1,000 requests a second offered, 600 a minute allowed, with a Redis
that is killed and started again, and without; accepted requests against what the bucket allows. `cost`: a
reservation of a small chat with its headers and its settlement, in memory and in Redis on loopback.
"""

import argparse
import asyncio
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

from aibrix_extproc.adapters.counters.memory import MemoryCounters
from aibrix_extproc.adapters.counters.redis import RedisCounters
from aibrix_extproc.adapters.counters.target import target_of
from aibrix_extproc.app.shared_counters import SharedCounters
from aibrix_extproc.core.access.limits.book import LimitBook, Plan
from aibrix_extproc.core.access.limits.counters import ADMITTED, Claim, Form, Reading
from aibrix_extproc.core.access.limits.records import LimitRecord
from aibrix_extproc.core.exchange.asks import Refused, Reserve, Reserved
from aibrix_extproc.core.openai.contract.operation_rows import OPERATIONS
from aibrix_extproc.core.placing import Caller
from tests.redis_server import RedisServer, redis_server
from tests.waiting import until

GATEWAYS: Final = 3
AMOUNT: Final = 60  # a bucket of 600 a minute, a tenth as large: its periods take six seconds
SPAN: Final = 100_000.0  # microseconds for one
OFFERED: Final = 1000
PERIODS: Final = 3


def shared(server: RedisServer, timeout: float = 1.0) -> SharedCounters:
    """A gateway's counters."""
    redis = RedisCounters(target_of(server.url, None, None), "bench", timeout, keep_seconds=900, lease_seconds=30)
    return SharedCounters(redis, MemoryCounters(keep_seconds=900, lease_seconds=30), lambda: GATEWAYS, closed=False)


async def exact(server: RedisServer, seed: int, *, restart: bool) -> tuple[int, int]:
    """How many were accepted, and how many the bucket allows in the time."""
    dice = random.Random(seed)
    claims = (Claim(f"seed {seed}", Form.BUCKET, 0, AMOUNT, SPAN),)
    gateways = [shared(server) for _ in range(GATEWAYS)]
    tasks = [asyncio.ensure_future(one.redis.run()) for one in gateways]
    await until(lambda: not any(one.is_away for one in gateways), "Redis is there")
    accepted: list[float] = []

    async def ask(number: int) -> None:
        gateway = gateways[number % GATEWAYS]
        reading: Any = gateway.reserve(f"{seed}-{number}", claims, (1.0,))
        if not isinstance(reading, Reading):
            reading = await reading
        if reading.refused == ADMITTED:
            accepted.append(reading.now)

    length, killed = PERIODS * AMOUNT * SPAN / 1e6, AMOUNT * SPAN / 1e6 * (1 + dice.random())
    began, number, running = time.monotonic(), 0, set()
    while (passed := time.monotonic() - began) < length:
        if restart and passed > killed:
            restart = False
            server.stop()
            await asyncio.sleep(0)
            asyncio.get_running_loop().run_in_executor(None, server.start)
        for _ in range(int(passed * OFFERED) - number):
            running.add(asyncio.ensure_future(ask(number)))
            number += 1
        running = {one for one in running if not one.done()}
        await asyncio.sleep(0.001)
    await asyncio.gather(*running)
    for one in tasks:
        one.cancel()
    return len(accepted), AMOUNT + int((max(accepted) - min(accepted)) / SPAN + 1e-4)


async def exactness(server: RedisServer, seeds: int) -> None:
    """Ten seeds, with and without a restart."""
    for restart in (False, True):
        for seed in range(seeds):
            got, allowed = await exact(server, seed + 1000 * restart, restart=restart)
            print(
                f"restart {restart!s:5} seed {seed}: accepted {got}, allowed {allowed}, difference {got - allowed:+d}"
            )


def plan_of(amount: float) -> tuple[LimitBook, Plan]:
    """Limits as a team has them."""
    limits = {"requests_per_minute": amount, "tokens_per_minute": amount * 1000, "requests_per_day": amount * 1000}
    book = LimitBook([LimitRecord("a", "*", limits=dict(limits))])
    return book, book.plan("team", "", "chat-m", 0.0)


def limiter(counters: Any, book: LimitBook) -> Any:
    """A limiter as the gateway has it."""
    from aibrix_extproc.app.limiting import Limiter
    from aibrix_extproc.core.access.limits.estimates import Estimator

    return Limiter(
        lambda: book, counters, Estimator(), lambda _: True, issuer="bench", metering=True,
        limited=lambda _: None, warned=lambda _: None,
    )  # fmt: skip


def asks() -> Iterator[Reserve]:
    """Small chats."""
    operation = next(
        row for row in OPERATIONS if row.id == "create_chat_completion" or row.path.endswith("/chat/completions")
    )
    while True:
        yield Reserve(operation, "chat-m", Caller("team"), 300, (20, 16))


async def reserved(one: Any, ask: Reserve) -> Reserved | Refused:
    """The answer, waited for if need be."""
    answer: Reserved | Refused | Awaitable[Reserved | Refused] = one.reserve(ask)
    return (await answer) if isinstance(answer, Awaitable) else answer


async def measured(one: Any, count: int, at_once: int) -> tuple[float, float]:
    """Microseconds of CPU for a reservation with its settlement, and the median of their waits."""
    waits: list[float] = []
    source = asks()

    async def client(many: int) -> None:
        for _ in range(many):
            began = time.perf_counter()
            answer = await reserved(one, next(source))
            waits.append(time.perf_counter() - began)
            if isinstance(answer, Reserved):
                one._counters.settle(answer.reservation, (1.0, 20.0, 10.0, 30.0, 300.0, 0.0, 0.0, 1.0, 0.0))

    cpu = time.process_time()
    await asyncio.gather(*(client(count // at_once) for _ in range(at_once)))
    await asyncio.sleep(0.1)
    return (time.process_time() - cpu) / count * 1e6, statistics.median(waits) * 1e6


async def cost(server: RedisServer, rounds: int) -> None:
    """In memory and in Redis, admitted and refused, in turns."""
    book, _ = plan_of(10**9)
    tight, _ = plan_of(1)
    redis = shared(server)
    task = asyncio.ensure_future(redis.redis.run())
    await until(lambda: not redis.is_away, "Redis is there")
    memory = MemoryCounters(keep_seconds=900, lease_seconds=30)
    variants: dict[str, Callable[[], Any]] = {
        "memory, admitted": lambda: limiter(memory, book),
        "memory, refused": lambda: limiter(MemoryCounters(keep_seconds=900, lease_seconds=30), tight),
        "redis, admitted": lambda: limiter(redis, book),
        "redis, refused": lambda: limiter(redis, tight),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, make in variants.items():
            found[name].append(await measured(make(), 1600, 32))
    for name, results in found.items():
        cpu, wait = (min(one[index] for one in results) for index in (0, 1))
        print(f"{name:18} {cpu:6.1f} us of CPU, median wait {wait:7.1f} us with 32 at once")
    task.cancel()


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("exact", "cost"))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    with redis_server() as server:
        if chosen.what == "exact":
            asyncio.run(exactness(server, chosen.seeds))
        else:
            import uvloop

            uvloop.run(cost(server, chosen.rounds))


if __name__ == "__main__":
    main()
