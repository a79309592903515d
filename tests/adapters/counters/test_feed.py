"""The feed in Redis: everybody reads what anybody writes, and nothing is kept or fails while Redis is away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aibrix_extproc.adapters.counters.feed import AT_ONCE, MAX_ENTRY_BYTES, RedisFeed
from aibrix_extproc.adapters.counters.target import target_of
from tests.redis_server import RedisServer, redis_server
from tests.waiting import until


class Reader:
    def __init__(self) -> None:
        self.unsent: list[bytes] = []
        self.read: list[bytes] = []
        self.history: list[bytes] = []
        self.changes: list[str] = []
        self.recalled: list[bytes] = []

    def take(self) -> list[bytes]:
        taken, self.unsent = self.unsent, []
        return taken

    def deliver(self, entry: bytes, *, is_history: bool) -> None:
        (self.history if is_history else self.read).append(entry)

    def recall(self, note: bytes) -> None:
        self.recalled.append(note)

    def note(self) -> bytes:
        return b"learned"

    def connected(self) -> None:
        self.changes.append("connected")

    def lost(self) -> None:
        self.changes.append("lost")


@asynccontextmanager
async def reading(url: str, key: str) -> AsyncIterator[tuple[RedisFeed, Reader]]:
    reader = Reader()
    feed = RedisFeed(target_of(url, None, None), key, reader, note_seconds=0.0)
    task = asyncio.get_running_loop().create_task(feed.run())
    try:
        yield feed, reader
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_all_read_what_any_writes_in_one_order_and_who_comes_later_reads_it_as_history(
    redis: RedisServer,
) -> None:
    sent = [b"%d" % number for number in range(3 * AT_ONCE)]
    async with reading(redis.url, "order") as (one, first), reading(redis.url, "order") as (other, second):
        await until(lambda: not one.is_away and not other.is_away)
        first.unsent = list(sent)
        await until(lambda: len(second.read) == len(first.read) == len(sent))
        assert first.read == second.read == sent
        async with reading(redis.url, "order") as (late, third):
            await until(lambda: not late.is_away)
            assert (third.history, third.read) == (sent, [])
            second.unsent = [b"line\nand\0zero"]
            await until(lambda: third.read == [b"line\nand\0zero"])


async def test_who_comes_later_is_given_the_latest_note(redis: RedisServer) -> None:
    async with reading(redis.url, "note") as (feed, first):
        await until(lambda: b"learned" in redis.ask("GET", "note:note"))
        assert first.recalled == []
    async with reading(redis.url, "note") as (feed, second):
        await until(lambda: not feed.is_away)
        assert second.recalled == [b"learned"]


async def test_what_is_too_long_to_be_ours_is_passed_over(redis: RedisServer) -> None:
    redis.ask("XADD", "long", "*", "b", "x" * (MAX_ENTRY_BYTES + 1))
    redis.ask("XADD", "long", "*", "b", "short")
    async with reading(redis.url, "long") as (feed, reader):
        await until(lambda: not feed.is_away)
        assert reader.history == [b"short"]


async def test_a_key_of_another_kind_is_said_and_nothing_is_shared(redis: RedisServer) -> None:
    redis.ask("SET", "taken", "1")
    async with reading(redis.url, "taken") as (feed, reader):
        await until(lambda: "WRONGTYPE" in feed.why_away)
        assert feed.is_away
        assert set(reader.changes) == {"lost"}


async def test_readers_are_told_when_redis_goes_and_comes_and_what_was_written_meanwhile_is_lost() -> None:
    with redis_server() as server:
        async with reading(server.url, "gone") as (feed, reader):
            await until(lambda: not feed.is_away)
            server.stop()
            await until(lambda: feed.is_away)
            assert reader.changes == ["connected", "lost"]
            server.start()
            await until(lambda: not feed.is_away)
            assert reader.changes[-1] == "connected"
            reader.unsent = [b"again"]
            await until(lambda: reader.read == [b"again"])
