"""One simulated engine with its listener, for use inside of a process: `async with Simulator(options) as sim`."""

import asyncio
import os
import socket
from types import TracebackType
from typing import Self

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler

from aibrix_extproc.simulator.app import App
from aibrix_extproc.simulator.background import Background
from aibrix_extproc.simulator.engine import Engine
from aibrix_extproc.simulator.options import SimulatorOptions

_BACKLOG = 4096
_MAX_HEADER_BYTES = 64 * 1024


class Simulator:
    """A running engine; `url`, `engine`, `faults` and `requests` are for tests."""

    engine: Engine
    app: App

    def __init__(self, options: SimulatorOptions | None = None) -> None:
        self.options = options or SimulatorOptions()
        self.port = self.options.port
        self._listener: asyncio.Server | None = None
        self._placeholder: socket.socket | None = None
        self._reopening: asyncio.TimerHandle | None = None
        self._web: web.Server | None = None
        self._background = Background()

    @property
    def url(self) -> str:
        """Where it listens, without a slash at the end."""
        host = self.options.host
        return f"http://{'127.0.0.1' if host in ('0.0.0.0', '::', '') else host}:{self.port}"

    @property
    def base_url(self) -> str:
        """The base URL for an OpenAI client."""
        return f"{self.url}/v1"

    async def start(self) -> None:
        """Listen; afterwards `port` is known."""
        self.engine = Engine(self.options)
        self.app = App(self.engine, self._background, self.crash, self.refuse_connections)
        self._web = web.Server(
            self.app.handle,
            request_factory=self._make_request,
            handler_cancellation=True,
            access_log=None,
            keepalive_timeout=self.options.keep_alive_seconds,
            # vLLM never decompresses requests: a gzip body must fail there as here.
            auto_decompress=False,
            max_line_size=_MAX_HEADER_BYTES,
            max_field_size=_MAX_HEADER_BYTES,
        )
        await self._listen()

    async def stop(self) -> None:
        """Close the listener and all connections."""
        if self._reopening is not None:
            self._reopening.cancel()
        self._close_listener()
        if self._web is not None:
            await self._web.shutdown(0.1)
        await self._background.stop()
        self._free_port()

    def refuse_connections(self, seconds: float) -> None:
        """Close the listener for a time; connections go as well, those that are being answered after their answer."""
        self._close_listener()
        self._hold_port()
        if self._web is not None:
            for connection in self._web.connections:
                # close() reads no further byte: the rest of a request would never come, and its client wait for ever.
                if connection in self.app.answering:
                    connection.close()
                else:
                    connection.force_close()
        if self._reopening is not None:
            self._reopening.cancel()
        self._reopening = asyncio.get_running_loop().call_later(seconds, self._reopen)

    def crash(self) -> None:
        """Die without a word: the process, or inside of a test the listener and all connections."""
        if self.options.crash_exits:
            os._exit(1)
        self._close_listener()
        if self._web is not None:
            for connection in self._web.connections:
                if connection.transport is not None:
                    connection.transport.abort()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def _listen(self) -> None:
        assert self._web is not None
        self._free_port()
        self._listener = await asyncio.get_running_loop().create_server(
            self._web, self.options.host, self.port, backlog=_BACKLOG, reuse_address=True
        )
        self.port = self._listener.sockets[0].getsockname()[1]
        self.engine.transfers.port = self.port

    def _reopen(self) -> None:
        self._reopening = None
        self._background.start(self._listen())

    def _close_listener(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _hold_port(self) -> None:
        """Bind the port without listening: connections are refused, and no other process can bind it."""
        family = socket.AF_INET6 if ":" in self.options.host else socket.AF_INET
        holder = socket.socket(family, socket.SOCK_STREAM)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            holder.bind((self.options.host, self.port))
        except OSError:
            # The listener is not quite gone yet; without a holder the port is merely free for a while.
            holder.close()
            return
        self._placeholder = holder

    def _free_port(self) -> None:
        if self._placeholder is not None:
            self._placeholder.close()
            self._placeholder = None

    def _make_request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        return _Request(
            message, payload, protocol, writer, task, asyncio.get_running_loop(),
            client_max_size=self.options.max_body_bytes,
        )  # fmt: skip


class _Request(web.BaseRequest):
    """A request whose answer may go without a content type, which aiohttp would make up."""

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        if not response.headers.get("Content-Type"):
            response.headers.popall("Content-Type", None)
