"""A gRPC server on the h2 library, to measure what the lean transport's own frames gain. Not for use.

As quick as h2 allows without changing it: large windows and frames, one write per batch, none of its checks of headers.
It has no limits, no deadlines, no drain, and takes only what a well-behaved Envoy sends.
"""

import asyncio
import contextlib
import struct
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any, Final, cast

import h2.config
import h2.connection
import h2.events
import h2.exceptions
from h2.settings import SettingCodes, Settings

from aibrix_extproc.http2.frames import Piece
from aibrix_extproc.http2.handler import CallOutcome, Handler, Method

_PREFIX: Final = struct.Struct(">BL")
_HEAD: Final = ((":status", "200"), ("content-type", "application/grpc"))
_OK: Final = (("grpc-status", "0"),)
_WINDOW: Final = 64 * 1024 * 1024
_FRAME_BYTES: Final = 1024 * 1024
_CONFIG: Final = h2.config.H2Configuration(
    client_side=False,
    header_encoding=None,
    validate_inbound_headers=False,
    normalize_inbound_headers=False,
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
)


class _Call:
    """One stream; a responder for handlers that answer at once, as all do that are measured."""

    __slots__ = ("answered", "handler", "received")

    def __init__(self, method: Method) -> None:
        self.handler: Handler = method(self)
        self.received = bytearray()
        self.answered = False

    def send(self, messages: Iterable[bytes]) -> None:
        raise NotImplementedError("answers later")

    def send_framed(self, data: Iterable[Piece]) -> None:
        raise NotImplementedError("answers later")

    @property
    def congested(self) -> bool:
        return False

    def start(self, waiting: Coroutine[Any, Any, None]) -> None:
        raise NotImplementedError("waits")

    def finish(self) -> None:
        raise NotImplementedError("ends by itself")


class _Protocol(asyncio.Protocol):
    def __init__(self, methods: Mapping[bytes, Method]) -> None:
        self._methods = methods
        self._h2 = h2.connection.H2Connection(_CONFIG)
        self._calls: dict[int, _Call] = {}
        self._unacknowledged = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._h2.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.INITIAL_WINDOW_SIZE: _WINDOW,
                SettingCodes.MAX_FRAME_SIZE: _FRAME_BYTES,
                SettingCodes.MAX_CONCURRENT_STREAMS: 20_000,
            },
        )
        self._h2.max_inbound_frame_size = _FRAME_BYTES
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(_WINDOW)
        self._transport.write(self._h2.data_to_send())

    def data_received(self, data: bytes) -> None:
        for event in self._h2.receive_data(data):
            if isinstance(event, h2.events.DataReceived):
                self._on_data(event)
            elif isinstance(event, h2.events.RequestReceived):
                self._on_request(event)
            elif isinstance(event, h2.events.StreamEnded):
                assert event.stream_id is not None
                self._on_end(event.stream_id)
            elif isinstance(event, h2.events.StreamReset):
                assert event.stream_id is not None
                if (call := self._calls.pop(event.stream_id, None)) is not None:
                    call.handler.closed(CallOutcome.CANCELLED)
        out = self._h2.data_to_send()
        if out:
            self._transport.write(out)

    def _on_request(self, event: h2.events.RequestReceived) -> None:
        assert event.stream_id is not None
        assert event.headers is not None
        path = next(value for name, value in event.headers if name == b":path")
        self._calls[event.stream_id] = _Call(self._methods[bytes(path)])

    def _on_end(self, stream_id: int) -> None:
        call = self._calls.pop(stream_id)
        with contextlib.suppress(h2.exceptions.ProtocolError):  # a reset came in the same bytes
            self._write(stream_id, call, call.handler.half_closed())
            self._h2.send_headers(stream_id, _OK, end_stream=True)
        call.handler.closed(CallOutcome.COMPLETED)

    def _on_data(self, event: h2.events.DataReceived) -> None:
        assert event.stream_id is not None
        self._unacknowledged += event.flow_controlled_length or 0
        if self._unacknowledged > _WINDOW // 4:  # of the connection; no stream has as much to say
            self._h2.increment_flow_control_window(self._unacknowledged)
            self._unacknowledged = 0
        call = self._calls[event.stream_id]
        received = call.received
        received += event.data or b""
        while len(received) >= _PREFIX.size:
            _, size = _PREFIX.unpack_from(received)
            if len(received) < _PREFIX.size + size:
                return
            message = bytes(memoryview(received)[_PREFIX.size : _PREFIX.size + size])
            del received[: _PREFIX.size + size]
            with contextlib.suppress(h2.exceptions.ProtocolError):
                self._write(event.stream_id, call, call.handler.message(message))

    def _write(self, stream_id: int, call: _Call, messages: Iterable[bytes]) -> None:
        for message in messages:
            if not call.answered:
                call.answered = True
                self._h2.send_headers(stream_id, _HEAD)
            self._h2.send_data(stream_id, _PREFIX.pack(0, len(message)) + message)


class H2Server:
    """Serves gRPC methods by path, as `GrpcServer` does; an unknown path ends the connection."""

    def __init__(self, methods: Mapping[bytes, Method]) -> None:
        self._methods = methods

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Protocol(self._methods), host, port)
        return int(self._server.sockets[0].getsockname()[1])
