"""Both transports as servers that are started and drained, and what clients of them ask."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2

from aibrix_extproc.adapters.extproc.grpcio_server import GrpcioServer
from aibrix_extproc.adapters.extproc.lean_transport import LeanTransport
from aibrix_extproc.adapters.extproc.service import ExtProcServer
from aibrix_extproc.adapters.extproc.session import Session
from aibrix_extproc.tls.credentials import KeyPair, ServerCredentials

DEADLINE_SECONDS = 60.0
Transport = Callable[..., ExtProcServer]
each_transport = pytest.mark.parametrize("transport", [GrpcioServer, LeanTransport], ids=["grpcio", "lean"])

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


def no_session() -> Session:
    raise AssertionError("nobody asks for Process")


@dataclass
class Running:
    """A server, its port and that of its health."""

    server: ExtProcServer
    port: int
    health_port: int


@contextlib.asynccontextmanager
async def running(
    transport: Transport, credentials: ServerCredentials | None = None, **options: Any
) -> AsyncIterator[Running]:
    server = transport(no_session, max_body_bytes=1000, **options)
    port = await server.start("127.0.0.1", 0, credentials)
    health_port = await server.start_health("127.0.0.1", 0)
    try:
        yield Running(server, port, health_port)
    finally:
        await server.drain(notice_seconds=0, drain_seconds=0)


def plain(port: int, host: str = "127.0.0.1") -> Any:
    """A channel with a connection of its own."""
    return grpc.aio.insecure_channel(f"{host}:{port}", options=[("grpc.use_local_subchannel_pool", 1)])


def secure(port: int, certificate: bytes) -> Any:
    """The same with TLS; the server must show what this certificate stands for."""
    credentials = grpc.ssl_channel_credentials(root_certificates=certificate)
    options = [("grpc.use_local_subchannel_pool", 1)]
    return grpc.aio.secure_channel(f"localhost:{port}", credentials, options=options)


def mutual(port: int, authority: bytes, pair: KeyPair | None) -> Any:
    """The same with a client's certificate, if there is one."""
    key, chain = (None, None) if pair is None else (pair.key, pair.certificate)
    credentials = grpc.ssl_channel_credentials(authority, key, chain)
    options = [("grpc.use_local_subchannel_pool", 1)]
    return grpc.aio.secure_channel(f"localhost:{port}", credentials, options=options)


async def check(channel: Any, name: str = "liveness") -> int:
    call = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    return int((await call(health_pb2.HealthCheckRequest(service=name), timeout=DEADLINE_SECONDS)).status)


def watch(channel: Any, name: str) -> Any:
    """A call to read statuses from."""
    call = channel.unary_stream(
        "/grpc.health.v1.Health/Watch",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=lambda data: health_pb2.HealthCheckResponse.FromString(data).status,
    )
    return call(health_pb2.HealthCheckRequest(service=name))


async def refused(asking: Any) -> grpc.StatusCode:
    """The code that something ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await asking
    return refusal.value.code()
