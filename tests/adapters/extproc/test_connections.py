"""Connections on both transports: how many there may be, and one whose peer is gone without a word."""

import asyncio
import contextlib
from contextlib import AsyncExitStack

import grpc
import grpc.aio
import pytest

from aibrix_extproc.adapters.extproc.grpcio_server import GrpcioServer
from aibrix_extproc.http2.listener_limits import ListenerLimits
from tests.adapters.extproc.transports import (
    DEADLINE_SECONDS,
    SERVING,
    Transport,
    check,
    each_transport,
    no_session,
    plain,
    refused,
    running,
)
from tests.http2 import wire


@each_transport
async def test_connection_over_the_bound_is_refused_and_room_comes_back(transport: Transport) -> None:
    async with running(transport, bounds=ListenerLimits(connections=2)) as it, AsyncExitStack() as channels:
        first, second = [await channels.enter_async_context(plain(it.port)) for _ in range(2)]
        assert [await check(first), await check(second)] == [SERVING, SERVING]
        async with plain(it.port) as third:
            assert await refused(check(third)) is grpc.StatusCode.UNAVAILABLE
        assert [await check(first), await check(second)] == [SERVING, SERVING]
        await first.close(grace=None)
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                async with plain(it.port) as fourth:
                    with contextlib.suppress(grpc.aio.AioRpcError):  # the server has not heard of the first one's end
                        assert await check(fourth) == SERVING
                        break


@each_transport
async def test_http1_on_the_port_is_hung_up_on_and_others_are_served(transport: Transport) -> None:
    async with running(transport) as it, plain(it.port) as channel:
        reader, writer = await asyncio.open_connection("127.0.0.1", it.port)
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: ext-proc\r\n\r\n")
        async with asyncio.timeout(DEADLINE_SECONDS):
            with contextlib.suppress(ConnectionError):
                assert not (await reader.read()).startswith(b"HTTP/1")
        writer.close()
        assert await check(channel) == SERVING


@pytest.mark.slow
async def test_peer_of_grpcio_that_answers_no_ping_is_given_up() -> None:
    """What the kernel does for the lean transport; here grpc has to ask."""
    server = GrpcioServer(no_session, max_body_bytes=1000, silence_seconds=2.0)
    port = await server.start("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(wire.CLIENT_PREFACE)
    async with asyncio.timeout(DEADLINE_SECONDS):
        with contextlib.suppress(ConnectionError):
            while await reader.read(1000):
                pass
    writer.close()
    await server.drain(notice_seconds=0, drain_seconds=0)
