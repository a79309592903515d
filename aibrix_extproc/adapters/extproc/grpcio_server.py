"""The ext_proc service on grpc.aio: a coroutine per stream around a `Session`, health, and a graceful end."""

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import grpc

from aibrix_extproc.adapters.extproc._generated.external_processor_pb2 import ProcessingRequest
from aibrix_extproc.adapters.extproc.grpcio_health import health_handlers
from aibrix_extproc.adapters.extproc.grpcio_tls import Guard, peer_credentials
from aibrix_extproc.adapters.extproc.health import Health
from aibrix_extproc.adapters.extproc.large_message import LargeMessage, parse_large_message
from aibrix_extproc.adapters.extproc.outgoing import Outgoing, whole_messages
from aibrix_extproc.adapters.extproc.service import MESSAGE_OVERHEAD_BYTES, SERVICE, Inlet, rearmed
from aibrix_extproc.adapters.extproc.session import Session
from aibrix_extproc.core.exchange.events import Cause
from aibrix_extproc.http2.listener_limits import ListenerLimits, Refusal
from aibrix_extproc.http2.sockets import listening_socket
from aibrix_extproc.rope import LARGE_BYTES, rope_of
from aibrix_extproc.tls.credentials import ServerCredentials

logger = logging.getLogger(__name__)

SILENCE_SECONDS: Final = 30.0  # a peer that answers no PING for so long is gone; grpc's own default is hours

_Context = Any  # grpc.aio.ServicerContext; grpcio ships no types


class GrpcioServer:
    """Serves `Process`, grpc.health.v1 and the inlets, each a path of its own, on one port."""

    def __init__(
        self,
        new_session: Callable[[], Session],
        *,
        max_body_bytes: int,
        bounds: ListenerLimits | None = None,
        inlets: Mapping[str, Inlet] = MappingProxyType({}),
        on_refusal: Callable[[Refusal], None] = lambda _: None,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        self._new_session = new_session
        self._health = Health()
        self._health_server: Any = None
        self._running = 0
        self._writing: set[asyncio.Task[None]] = set()
        self._draining = asyncio.Event()
        self._guard = Guard(on_refusal)
        bounds = bounds or ListenerLimits()
        limit = max_body_bytes + MESSAGE_OVERHEAD_BYTES
        self._options = [
            ("grpc.max_receive_message_length", limit),
            ("grpc.max_send_message_length", limit),
            ("grpc.max_allowed_incoming_connections", bounds.connections),
            ("grpc.max_concurrent_streams", min(bounds.streams_of_peer, bounds.streams)),
            ("grpc.max_connection_idle_ms", int(bounds.idle_seconds * 1000)),
            ("grpc.so_reuseport", 0),  # a busy port is an error, not a shared one
            ("grpc.keepalive_time_ms", int(silence_seconds * 500)),
            ("grpc.http2.ping_timeout_ms", int(silence_seconds * 500)),  # keepalive_timeout_ms does not end them
            ("grpc.http2.min_ping_interval_without_data_ms", 1000),
            ("grpc.keepalive_permit_without_calls", 1),
        ]
        self._server = grpc.aio.server(options=self._options, maximum_concurrent_rpcs=bounds.streams)
        handler = grpc.stream_stream_rpc_method_handler(
            self._process, request_deserializer=_parsed, response_serializer=None
        )
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Process": handler}),))
        for path, inlet in inlets.items():
            service, _, method = path.removeprefix("/").partition("/")
            listener = grpc.stream_unary_rpc_method_handler(self._listener(inlet))
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: listener}),))
        self._server.add_generic_rpc_handlers((health_handlers(self._health, self._guard),))

    @property
    def running(self) -> int:
        """How many exchanges are open."""
        return self._running

    @property
    def connections(self) -> int | None:
        """None: grpc does not report it."""
        return None

    async def start(self, host: str, port: int, credentials: ServerCredentials | None = None) -> int:
        """Listen, live but not ready, and return the port. Raises OSError."""
        self._guard.credentials = credentials
        bound = _bind(self._server, host, port, credentials)
        await self._server.start()
        return bound

    async def start_health(self, host: str, port: int) -> int:
        """Serve grpc.health.v1 on a port of its own, in plaintext, and return the port. Raises OSError."""
        server = grpc.aio.server(options=self._options)
        server.add_generic_rpc_handlers((health_handlers(self._health),))
        bound = _bind(server, host, port, None)
        self._health_server = server
        await server.start()
        return bound

    async def set_ready(self, ready: bool) -> None:
        """Set the status of every name that stands for readiness."""
        self._health.set_ready(ready)

    async def drain(self, *, notice_seconds: float, drain_seconds: float) -> None:
        """Become not ready, accept new streams during the notice, let running ones finish, stop."""
        self._health.set_ready(False)
        if notice_seconds:
            await asyncio.sleep(notice_seconds)
        logger.info("draining", extra={"running": self._running})
        self._draining.set()
        self._health.close()
        await self._server.stop(drain_seconds)
        if self._health_server is not None:
            await self._health_server.stop(0)

    def _listener(self, inlet: Inlet) -> Callable[[object, _Context], Awaitable[bytes]]:
        async def listen(_: object, context: _Context) -> bytes:
            await self._guard.check(context)
            # Such a stream has no end of its own, so the drain ends it. Envoy continues with another replica.
            draining = asyncio.ensure_future(self._draining.wait())
            reading = asyncio.ensure_future(context.read())
            try:
                while not draining.done():
                    await asyncio.wait((draining, reading), return_when=asyncio.FIRST_COMPLETED)
                    if reading.done():
                        if not isinstance(message := reading.result(), bytes):
                            break
                        inlet(message)
                        reading = asyncio.ensure_future(context.read())
            finally:
                draining.cancel()
                reading.cancel()
            return b""

        return listen

    def _expire(self, session: Session, context: _Context) -> None:
        """Write the replies after a deadline. Meanwhile the stream's coroutine waits for Envoy's next message."""

        async def write(replies: list[Outgoing]) -> None:
            for reply in whole_messages(replies):
                await context.write(reply)

        if replies := session.expire():
            task = asyncio.get_running_loop().create_task(write(replies))
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)

    async def _process(self, _: object, context: _Context) -> None:
        await self._guard.check(context)
        session = self._new_session()
        cause = Cause.FAILED
        timer: asyncio.TimerHandle | None = None
        loop, expire = asyncio.get_running_loop(), functools.partial(self._expire, session, context)
        session.expire_now = expire
        self._running += 1
        try:
            read: Callable[[], Awaitable[object]] = context.read
            while isinstance(message := await read(), ProcessingRequest | LargeMessage):
                replies = (
                    session.receive_large(message) if isinstance(message, LargeMessage) else session.receive(message)
                )
                del message  # a large body must not live until the next message comes
                timer = rearmed(timer, session, loop, expire)
                for reply in whole_messages(replies):
                    await context.write(reply)
                while session.pending is not None:
                    for reply in whole_messages(session.resume(await session.pending)):
                        await context.write(reply)
                    timer = rearmed(timer, session, loop, expire)
            cause = Cause.HALF_CLOSED
        except asyncio.CancelledError:
            cause = Cause.CANCELLED  # how Envoy ends half of all normal exchanges
            raise
        finally:
            if timer is not None:
                timer.cancel()
            self._running -= 1
            session.close(cause)


def _parsed(payload: bytes) -> ProcessingRequest | LargeMessage:
    """Parse a message of Envoy; grpc passes the whole of it."""
    return (
        parse_large_message(rope_of((payload,)))
        if len(payload) > LARGE_BYTES
        else ProcessingRequest.FromString(payload)
    )


def _bind(server: Any, host: str, port: int, credentials: ServerCredentials | None) -> int:
    _try_to_listen(host, port)
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        if credentials is None:
            return int(server.add_insecure_port(address))
        return int(server.add_secure_port(address, peer_credentials(credentials)))
    except RuntimeError as error:
        raise OSError(f"cannot listen on {host}:{port}") from error


def _try_to_listen(host: str, port: int) -> None:
    """Raise the OSError that names the cause. grpc would raise one without it, and print a line on stderr."""
    listening_socket(host, port).close()
