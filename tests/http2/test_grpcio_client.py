"""grpcio's own client against the lean server, in every shape of a call."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
import grpc.aio
import pytest

from aibrix_extproc.http2.handler import CallOutcome
from tests.http2 import wire
from tests.http2.rig import DEADLINE_SECONDS, QUICK, serving
from tests.waiting import until

LARGE = 40 * 1024 * 1024
OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
]


@contextlib.asynccontextmanager
async def channel(port: int) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as found:
        yield found


async def each(messages: Iterable[bytes]) -> AsyncIterator[bytes]:
    for message in messages:
        yield message


async def test_stream_of_messages_comes_back_and_ends_well() -> None:
    async with serving() as served, channel(served.port) as found:
        call = found.stream_stream(wire.ECHO)(each([b"a", b"", b"c" * 100_000]))
        assert [message async for message in call] == [b"a", b"", b"c" * 100_000]
        assert await call.code() is grpc.StatusCode.OK
        assert served.log.outcomes == [CallOutcome.COMPLETED]


async def test_unary_and_half_streaming_calls_are_the_same_to_the_server() -> None:
    async with serving() as served, channel(served.port) as found:
        assert await found.unary_unary(wire.ECHO)(b"one") == b"one"
        assert [one async for one in found.unary_stream(wire.ECHO)(b"two")] == [b"two"]
        assert await found.stream_unary(wire.ECHO)(each([b"three"])) == b"three"


async def test_conversation_goes_to_and_fro_and_is_half_closed() -> None:
    async with serving() as served, channel(served.port) as found:
        call = found.stream_stream(wire.ECHO)()
        for message in (b"1", b"2", b"3"):
            await call.write(message)
            assert await call.read() == message
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK


async def test_client_that_cancels_is_noticed() -> None:
    async with serving() as served, channel(served.port) as found:
        call = found.stream_stream(wire.ECHO)()
        await call.write(b"wait")
        await until(lambda: served.log.messages)
        call.cancel()
        await until(lambda: served.log.outcomes)
        assert served.log.outcomes == [CallOutcome.CANCELLED]


async def test_deadline_of_the_client_ends_the_call_on_both_sides() -> None:
    async with serving() as served, channel(served.port) as found:

        async def heard() -> bool:
            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                await found.unary_unary(wire.ECHO)(b"wait", timeout=0.2)
            assert refusal.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            return served.log.opened > 0  # a stalled machine may use the time up before the server hears of the call

        await until(heard)
        await until(lambda: len(served.log.outcomes) == served.log.opened)
        assert served.server.running == 0


@pytest.mark.parametrize(
    ("path", "message", "code", "details"),
    [
        ("/test/Nothing", b"x", grpc.StatusCode.UNIMPLEMENTED, "unknown method"),
        (wire.ECHO, b"break", grpc.StatusCode.INTERNAL, "internal error"),
        (wire.ECHO, b"refuse", grpc.StatusCode.NOT_FOUND, "no such thing: 100 %\n\u00e4"),
        (
            wire.ECHO,
            b"x" * 1_000_001,
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "message of 1000001 bytes is larger than 1000000",
        ),
    ],
)
async def test_status_and_its_message_reach_the_client(path: str, message: bytes, code: object, details: str) -> None:
    async with serving() as served, channel(served.port) as found:
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await found.unary_unary(path)(message)
        assert refusal.value.code() is code
        assert refusal.value.details() == details


async def test_compressed_message_is_refused() -> None:
    async with serving() as served, channel(served.port) as found:
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await found.unary_unary(wire.ECHO)(b"x" * 10_000, compression=grpc.Compression.Gzip)
        assert refusal.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.slow
async def test_message_of_40_mib_comes_back_whole_in_linear_time() -> None:
    async with serving(max_message_bytes=LARGE) as served, channel(served.port) as found:
        seconds = []
        for size in (LARGE // 4, LARGE):
            started = time.process_time()
            payload = b"xyz" * (size // 3)
            assert await found.unary_unary(wire.ECHO)(payload) == payload
            seconds.append(time.process_time() - started)
        assert seconds[1] < 12 * seconds[0] + 0.5


@pytest.mark.slow
@pytest.mark.parametrize("streams", [2_000, pytest.param(10_000, marks=pytest.mark.fuzz)])
async def test_thousands_of_streams_on_one_connection_all_end_well(streams: int) -> None:
    async with serving() as served, channel(served.port) as found:
        calls = []
        for _ in range(streams):
            call = found.stream_stream(wire.ECHO)()
            await call.write(b"hello")
            calls.append(call)
        assert {await call.read() for call in calls} == {b"hello"}
        assert served.server.running == streams
        assert served.server.connections == 1
        for number, call in enumerate(calls):
            if number % 2:
                call.cancel()
            else:
                await call.done_writing()
        await until(lambda: served.server.running == 0, seconds=60)
        assert served.log.outcomes.count(CallOutcome.CANCELLED) == streams // 2
        assert served.log.outcomes.count(CallOutcome.COMPLETED) == streams // 2


@pytest.mark.slow
async def test_hundred_connections_are_served_side_by_side() -> None:
    async with serving() as served, contextlib.AsyncExitStack() as stack:
        channels = [await stack.enter_async_context(channel(served.port)) for _ in range(100)]
        answers = await asyncio.gather(
            *(one.unary_unary(wire.ECHO)(b"x" * 5_000) for one in channels for _ in range(20))
        )
        assert set(answers) == {b"x" * 5_000}
        assert served.server.connections == 100
    await until(lambda: served.server.connections == 0)


@pytest.mark.slow
async def test_drain_lets_a_client_finish_and_sends_it_elsewhere() -> None:
    async with serving() as served, channel(served.port) as found:
        call = found.stream_stream(wire.ECHO)()
        await call.write(b"wait")
        await until(lambda: served.log.messages)
        drain = asyncio.create_task(served.server.drain(DEADLINE_SECONDS))
        await until(lambda: served.server.draining)
        await asyncio.sleep(5 * QUICK.notice_seconds)  # in which nothing is cut
        served.log.gate.set()
        assert await call.read() == b"waited"
        await call.done_writing()
        assert await call.code() is grpc.StatusCode.OK
        await drain
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await found.unary_unary(wire.ECHO)(b"x", timeout=DEADLINE_SECONDS)
        assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE
