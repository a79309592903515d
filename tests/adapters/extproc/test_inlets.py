"""Methods that only listen, on both transports: messages reach their inlet, the drain does not wait for the stream."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc.aio
import pytest

from aibrix_extproc.adapters.extproc.grpcio_server import GrpcioServer
from aibrix_extproc.adapters.extproc.lean_transport import LeanTransport
from aibrix_extproc.adapters.extproc.session import Session

METHOD = "/some.Service/Listen"
each_transport = pytest.mark.parametrize("transport", [GrpcioServer, LeanTransport], ids=["grpcio", "lean"])


def no_session() -> Session:
    raise AssertionError("nobody asks for Process")


@each_transport
async def test_messages_reach_the_inlet_and_the_end_is_answered(transport: Callable[..., Any]) -> None:
    taken: list[bytes] = []
    server = transport(no_session, max_body_bytes=1000, inlets={METHOD: taken.append})
    port = await server.start("127.0.0.1", 0)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.stream_unary(METHOD)()
        for message in (b"one", b"", b"two"):
            await call.write(message)
        await call.done_writing()
        assert await call == b""
        assert await call.code() is grpc.StatusCode.OK
    assert taken == [b"one", b"", b"two"]
    await server.drain(notice_seconds=0, drain_seconds=60)


@each_transport
async def test_the_drain_ends_a_stream_that_has_no_end_of_its_own(transport: Callable[..., Any]) -> None:
    taken = asyncio.Event()
    server = transport(no_session, max_body_bytes=1000, inlets={METHOD: lambda _: taken.set()})
    port = await server.start("127.0.0.1", 0)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.stream_unary(METHOD)()
        await call.write(b"one")
        await asyncio.wait_for(taken.wait(), 60)
        assert server.running == 0  # no exchange
        await asyncio.wait_for(server.drain(notice_seconds=0, drain_seconds=600), 60)
        assert await call.code() is grpc.StatusCode.OK


@each_transport
async def test_a_path_without_an_inlet_is_unknown(transport: Callable[..., Any]) -> None:
    server = transport(no_session, max_body_bytes=1000)
    port = await server.start("127.0.0.1", 0)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.stream_unary(METHOD)()
        assert await call.code() is grpc.StatusCode.UNIMPLEMENTED
    await server.drain(notice_seconds=0, drain_seconds=60)
