"""Counters in Redis when Redis misbehaves: the circuit opens, says why, and closes after a reservation of its own."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Final

import pytest

from aibrix_extproc.adapters.counters.memory import MemoryCounters
from aibrix_extproc.adapters.counters.redis import RedisCounters
from aibrix_extproc.adapters.counters.target import target_of
from aibrix_extproc.app.shared_counters import SharedCounters
from aibrix_extproc.config_files.errors import SourceError
from aibrix_extproc.core.access.limits.counters import ADMITTED, Claim, Form, Reading
from aibrix_extproc.core.access.limits.estimates import NOTHING
from tests.redis_server import RedisServer, redis_server
from tests.waiting import until

SPAN: Final = 600e6  # what comes back to the bucket during a test is next to nothing, however long the test takes
CLAIMS: Final = (Claim("a", Form.BUCKET, 0, 60, SPAN),)
KEEP_SECONDS: Final = 100_000


@asynccontextmanager
async def counting(
    url: str, prefix: str, *, replicas: int = 1, closed: bool = False, timeout: float = 30.0
) -> AsyncIterator[SharedCounters]:
    redis = RedisCounters(target_of(url, None, None), prefix, timeout, keep_seconds=KEEP_SECONDS, lease_seconds=300)
    local = MemoryCounters(keep_seconds=KEEP_SECONDS, lease_seconds=300)
    task = asyncio.get_running_loop().create_task(redis.run())
    try:
        yield SharedCounters(redis, local, lambda: replicas, closed=closed)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def take(counters: SharedCounters, name: str, cost: float = 1.0) -> Reading | None:
    found = counters.reserve(name, CLAIMS, (cost,))
    return await found if isinstance(found, Awaitable) else found


async def admitted(counters: SharedCounters, most: int = 70) -> int:
    readings = [await take(counters, f"r{number}") for number in range(most)]
    return sum(one is not None and one.refused == ADMITTED for one in readings)


async def test_two_gateways_have_one_bucket(redis: RedisServer) -> None:
    async with counting(redis.url, "two") as first, counting(redis.url, "two") as second:
        await until(lambda: not first.is_away and not second.is_away)
        assert 60 <= await admitted(first) + await admitted(second) <= 61


async def test_a_new_gateway_joins_the_others_and_one_that_comes_back_keeps_to_its_share(redis: RedisServer) -> None:
    async with counting(redis.url, "join") as first:
        await until(lambda: not first.is_away)
        assert first.redis.is_gathering, "nobody knows what an empty Redis has lost"
        await until(lambda: not first.redis.is_gathering)
        async with counting(redis.url, "join") as second:
            await until(lambda: not second.is_away)
            assert not second.redis.is_gathering
            failures = first.redis.failures
            await asyncio.to_thread(redis.ask, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await until(lambda: first.redis.failures > failures and not first.is_away)
            assert first.redis.is_gathering
            assert not first.is_away


async def test_a_settlement_of_another_gateway_counts_once(redis: RedisServer) -> None:
    async with counting(redis.url, "settled") as first, counting(redis.url, "settled") as second:
        await until(lambda: not first.is_away and not second.is_away)
        assert await take(first, "x", 50.0) is not None
        second.settle("x", (10.0,))
        second.settle("x", (0.0,))

        async def used() -> bool:
            reading = await take(first, "", 0.0)
            return reading is not None and 8 < (reading.states[0] - reading.now) / SPAN <= 10.1

        await until(used, "it is settled to 10")


async def test_after_a_restart_nobody_gets_more_and_debts_are_paid() -> None:
    with redis_server() as server:
        async with counting(server.url, "restart", replicas=2) as counters:
            await until(lambda: not counters.is_away and not counters.redis.is_gathering)
            assert await take(counters, "x", 40.0) is not None
            await asyncio.to_thread(server.stop)
            await until(lambda: counters.is_away)
            alone = await admitted(counters, 30)
            assert 10 <= alone <= 11  # half of what is left, and of what comes back
            await asyncio.to_thread(server.start)
            await until(lambda: not counters.is_away and not counters.redis.is_gathering)
            await counters.repay()
            reading = await take(counters, "", 0.0)
            assert reading is not None
            assert 39 <= (reading.states[0] - reading.now) / SPAN <= 40 + alone


async def test_what_came_back_to_a_bucket_during_an_outage_is_not_owed() -> None:
    bucket = (Claim("quick", Form.BUCKET, 0, 60, 50_000.0),)  # full again after 3 s

    async def used(counters: SharedCounters) -> float:
        found = counters.reserve("", bucket, (0.0,))
        reading = await found if isinstance(found, Awaitable) else found
        assert reading is not None
        return (reading.states[0] - reading.now) / bucket[0].span

    with redis_server() as server:
        async with counting(server.url, "long") as counters:
            await until(lambda: not counters.is_away and not counters.redis.is_gathering)
            await used(counters)
            await asyncio.to_thread(server.stop)
            await until(lambda: counters.is_away)
            for number in range(50):
                counters.reserve(f"r{number}", bucket, (1.0,))
            assert await used(counters) > 20

            async def is_full() -> bool:
                return await used(counters) <= 0

            await until(is_full, "the share is full again")
            await asyncio.to_thread(server.start)
            await until(lambda: not counters.is_away and not counters.redis.is_gathering)
            await counters.repay()
            assert await used(counters) <= 0


@pytest.mark.parametrize(
    ("words", "undo", "why"),
    [
        (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0"), "OOM"),
        (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE"), "READONLY"),
    ],
    ids=["full", "read-only"],
)  # fmt: skip
async def test_a_redis_that_cannot_write_counts_as_away_until_it_can(
    words: tuple[str, ...], undo: tuple[str, ...], why: str
) -> None:
    with redis_server() as server:
        async with counting(server.url, "broken") as counters:
            await until(lambda: not counters.is_away)
            await asyncio.to_thread(server.ask, *words)
            assert await take(counters, "x") is not None  # by the share of this process
            await until(lambda: counters.is_away)
            assert why in counters.redis.why_away
            assert await take(counters, "y") is not None
            await asyncio.to_thread(server.ask, *undo)
            await until(lambda: not counters.is_away)


@pytest.mark.parametrize("words", [("SET",), ("LPUSH",), ("ZADD", "1"), ("SADD",)], ids=["text", "list", "zset", "set"])
async def test_what_something_else_wrote_begins_anew_and_is_counted(redis: RedisServer, words: tuple[str, ...]) -> None:
    prefix = "mended-" + words[0]
    lease = (*CLAIMS, Claim("b", Form.LEASE, 1, 5, 0.0))
    async with counting(redis.url, prefix) as counters:
        await until(lambda: not counters.is_away and not counters.redis.is_gathering)
        assert await take(counters, "x", 50.0) is not None
        for name in ("a", "b", "r:x", "born", "first", "probe", "r:probe"):
            key = f"{{{prefix}}}:{name}"
            await asyncio.to_thread(redis.ask, "DEL", key)
            await asyncio.to_thread(redis.ask, words[0], key, *words[1:], "x" * 24)
        found = counters.reserve("y", lease, (1.0, 1.0))
        assert isinstance(found, Awaitable)
        reading = await found
        assert reading is not None
        assert reading.refused == ADMITTED
        assert reading.mended == (1 if words[0] == "ZADD" else 2)
        assert 50 <= (reading.states[0] - reading.now) / SPAN <= 51, "this gateway knew what was used"
        for name in ("x", "y"):
            counters.settle(name, (0.0, 0.0))
        assert await counters.redis.renew("b", ("y",)) == 1
        await until(lambda: counters.redis.mended >= 3 - (words[0] == "ZADD"))
        assert not counters.is_away
        assert counters.redis.failures == 0


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"$5\r\nhello\r\n",
        b"$99999999\r\n",
        b"+OK\r\n" * 9,
        b"-ERR unknown command\r\n" * 9,
    ],
)
async def test_a_server_that_is_no_redis_is_never_used(answer: bytes) -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, counting(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}", "none") as counters:
        await until(lambda: counters.redis.why_away != "not connected yet")
        assert counters.is_away
        assert await take(counters, "x") is not None


async def test_answers_that_come_too_late_are_not_waited_for_and_open_the_circuit() -> None:
    with redis_server() as server:
        async with counting(server.url, "late", timeout=0.2) as counters:
            await until(lambda: not counters.is_away)
            assert server.process is not None
            server.process.send_signal(signal.SIGSTOP)
            readings = await asyncio.gather(*(take(counters, f"r{number}") for number in range(4)))
            assert all(one is not None and one.refused == ADMITTED for one in readings)
            assert counters.is_away
            assert counters.redis.why_away == "answers come too late"
            server.process.send_signal(signal.SIGCONT)
            await until(lambda: not counters.is_away)


async def test_who_leaves_while_redis_is_asked_takes_nothing(redis: RedisServer) -> None:
    async with counting(redis.url, "left") as counters:
        await until(lambda: not counters.is_away)
        for _ in range(2):  # while gateways come back, and afterwards
            waiting = counters.reserve("x", CLAIMS, (50.0,))
            assert isinstance(waiting, Awaitable)
            task = asyncio.ensure_future(waiting)
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            counters.settle("x", NOTHING)  # as the limiter does

            async def refunded() -> bool:
                reading = await take(counters, "y", 55.0)
                counters.settle("y", NOTHING)
                return reading is not None and reading.refused == ADMITTED

            await until(refunded, "it is refunded")
            await until(lambda: not counters.redis.is_gathering)


async def test_closed_admits_nobody_while_redis_is_away() -> None:
    async with counting("redis://127.0.0.1:1", "closed", closed=True) as counters:
        assert await take(counters, "x") is None


async def test_password_and_database_of_the_url() -> None:
    with redis_server() as server:
        await asyncio.to_thread(server.ask, "CONFIG", "SET", "requirepass", "secret")
        async with counting(f"redis://:secret@127.0.0.1:{server.port}/3", "auth") as counters:
            await until(lambda: not counters.is_away)
        async with counting(f"redis://:wrong@127.0.0.1:{server.port}/3", "auth") as counters:
            await until(lambda: "WRONGPASS" in counters.redis.why_away or "invalid" in counters.redis.why_away)


@pytest.mark.parametrize("url", ["http://x", "redis://x:port", "redis://x:1/name"])
def test_a_url_that_cannot_be_used_is_refused(url: str) -> None:
    with pytest.raises(SourceError, match=r"redis\.url"):
        target_of(url, None, None)
