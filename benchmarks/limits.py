"""What limits cost: `python -m benchmarks.limits`.

A reservation of a small chat with its headers and its settlement, in memory and in Redis on loopback, admitted and
refused. Whether limits are exact: `benchmarks/limits_exact.py`.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import uvloop

from aibrix_extproc.adapters.counters.memory import MemoryCounters
from aibrix_extproc.adapters.counters.redis import RedisCounters
from aibrix_extproc.adapters.counters.target import target_of
from aibrix_extproc.app.shared_counters import SharedCounters
from aibrix_extproc.core.access.limits.book import LimitBook, Plan
from aibrix_extproc.core.access.limits.records import LimitRecord
from aibrix_extproc.core.exchange.asks import Refused, Reserve, Reserved
from aibrix_extproc.core.openai.contract.operation_rows import OPERATIONS
from aibrix_extproc.core.placing import Caller
from tests.redis_server import RedisServer, redis_server
from tests.waiting import until


def shared(server: RedisServer, timeout: float = 1.0) -> SharedCounters:
    """A gateway's counters."""
    redis = RedisCounters(target_of(server.url, None, None), "bench", timeout, keep_seconds=900, lease_seconds=30)
    return SharedCounters(redis, MemoryCounters(keep_seconds=900, lease_seconds=30), lambda: 1, closed=False)


def plan_of(amount: float) -> tuple[LimitBook, Plan]:
    """Limits as a team has them."""
    limits = {"requests_per_minute": amount, "tokens_per_minute": amount * 1000, "requests_per_day": amount * 1000}
    book = LimitBook([LimitRecord("a", "*", limits=dict(limits))])
    return book, book.plan("team", "", "chat-m", lambda: 0.0)


def limiter(counters: Any, book: LimitBook) -> Any:
    """A limiter as the gateway has it."""
    from aibrix_extproc.app.limiting import Limiter
    from aibrix_extproc.core.access.limits.estimates import Estimator
    from aibrix_extproc.core.openai.wire.estimates import InputRatios

    return Limiter(
        lambda: book, counters, Estimator(InputRatios()), lambda _: True, issuer="bench", metering=True,
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
    await until(lambda: not redis.is_away and not redis.redis.is_gathering, "Redis is there")
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
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    with redis_server() as server:
        uvloop.run(cost(server, chosen.rounds))


if __name__ == "__main__":
    main()
