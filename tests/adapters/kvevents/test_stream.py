"""The stream of cache events on real sockets: order, gaps, replay, restarts, and peers that send rubbish."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
import zmq
import zmq.asyncio

from aibrix_extproc.adapters.kvevents.stream import KVEventStream
from aibrix_extproc.core.routing.prefix.events import BlockRemoved, CacheEvent
from tests.waiting import until

END = (1 << 64) - 1


def events(*blocks: int) -> bytes:
    return msgspec.msgpack.encode([1.0, [{"type": "BlockRemoved", "block_hashes": list(blocks)}], 0])


class Engine:
    """A publisher like vLLM's, which keeps what it has sent; `forgets` are numbers that it no longer has."""

    def __init__(self, context: zmq.asyncio.Context) -> None:
        self.publisher = context.socket(zmq.XPUB)  # like PUB, and says when somebody subscribes
        self.replays = context.socket(zmq.ROUTER)
        self.address = f"tcp://127.0.0.1:{self.publisher.bind_to_random_port('tcp://127.0.0.1')}"
        self.replay_address = f"tcp://127.0.0.1:{self.replays.bind_to_random_port('tcp://127.0.0.1')}"
        self.kept: dict[int, bytes] = {}
        self.asked: list[int] = []

    async def publish(self, number: int, message: bytes, *, lost: bool = False) -> None:
        self.kept[number] = message
        if not lost:
            await self.publisher.send_multipart([b"kv@pod@model", number.to_bytes(8, "big"), message])

    async def answer_replays(self) -> None:
        while True:
            peer, empty, start = await self.replays.recv_multipart()
            self.asked.append(int.from_bytes(start, "big"))
            for number in sorted(self.kept):
                if number >= self.asked[-1]:
                    frames = [peer, empty, b"kv@pod@model", number.to_bytes(8, "big"), self.kept[number]]
                    await self.replays.send_multipart(frames)
            await self.replays.send_multipart([peer, empty, b"", END.to_bytes(8, "big"), b""])


class Followed:
    """What a follower heard: blocks, and `lost`."""

    def __init__(self) -> None:
        self.heard: list[object] = []
        self.gaps = 0

    def take(self, event: CacheEvent) -> None:
        assert isinstance(event, BlockRemoved)
        self.heard += event.block_hashes

    def lost(self) -> None:
        self.heard.append("lost")

    def gap(self) -> None:
        self.gaps += 1


@asynccontextmanager
async def following() -> AsyncIterator[tuple[Engine, Followed]]:
    context = zmq.asyncio.Context()
    engine, followed = Engine(context), Followed()
    stream = KVEventStream(context, engine.address, engine.replay_address, followed, followed.gap)
    tasks = [asyncio.ensure_future(work) for work in (engine.answer_replays(), stream.run())]
    await engine.publisher.recv_multipart()  # the subscription
    try:
        yield engine, followed
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        context.destroy(linger=0)


async def hears(followed: Followed, *expected: object) -> None:
    await until(lambda: len(followed.heard) >= len(expected), lambda: followed.heard)
    assert followed.heard == list(expected)


async def test_events_come_in_order() -> None:
    async with following() as (engine, followed):
        for number in range(3):
            await engine.publish(number, events(number, 10 + number))
        await hears(followed, 0, 10, 1, 11, 2, 12)

    assert (followed.gaps, engine.asked) == (0, [])


async def test_a_gap_is_closed_by_a_replay() -> None:
    async with following() as (engine, followed):
        for number in range(5):
            await engine.publish(number, events(number), lost=number in (1, 2))
        await hears(followed, 0, 1, 2, 3, 4)

    assert (followed.gaps, engine.asked) == (0, [1])


async def test_a_gap_that_the_engine_has_forgotten_loses_all() -> None:
    async with following() as (engine, followed):
        await engine.publish(0, events(0))
        await engine.publish(5, events(5))
        await engine.publish(6, events(6))
        await hears(followed, 0, "lost", 5, 6)

    assert followed.gaps == 1


async def test_what_was_before_the_subscription_is_replayed_as_far_as_it_is_kept() -> None:
    async with following() as (engine, followed):
        for number in (7, 8, 9):
            await engine.publish(number, events(number), lost=True)
        await engine.publish(10, events(10))
        await hears(followed, 7, 8, 9, 10)

    assert (followed.gaps, engine.asked) == (0, [0])


async def test_an_engine_that_starts_anew_has_lost_all() -> None:
    async with following() as (engine, followed):
        await engine.publish(0, events(0))
        await engine.publish(1, events(1))
        await engine.publish(0, events(100))
        await hears(followed, 0, 1, "lost", 100)


async def test_an_address_that_cannot_be_used_ends_the_stream_and_nothing_else() -> None:
    context, followed = zmq.asyncio.Context(), Followed()
    await KVEventStream(context, "tcp://no host:1", None, followed, followed.gap).run()
    context.destroy(linger=0)

    assert (followed.heard, followed.gaps) == (["lost"], 1)


@pytest.mark.parametrize(
    "frames",
    [[b"one"], [b"t", b"short", events(1)], [b"t", (1).to_bytes(8, "big"), b"\xc1"], [b"", b"", b"", b""]],
    ids=["one-frame", "no-number", "no-events", "four"],
)
async def test_what_cannot_be_read_loses_all_and_the_stream_goes_on(frames: list[bytes]) -> None:
    async with following() as (engine, followed):
        await engine.publish(0, events(0))
        await engine.publisher.send_multipart(frames)
        await until(lambda: "lost" in followed.heard)
        await engine.publish(1 if len(frames) != 3 or len(frames[1]) != 8 else 2, events(9))
        await until(lambda: followed.heard[-1] == 9)

    assert followed.gaps == 1
