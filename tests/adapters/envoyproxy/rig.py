"""A real Envoy between raw clients, scripted engines and a scripted processor."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer

from aibrix_extproc.adapters.envoyproxy.configure import command, write_configuration
from aibrix_extproc.adapters.envoyproxy.endpoints import render_endpoints
from aibrix_extproc.adapters.envoyproxy.find import find_envoy
from aibrix_extproc.adapters.envoyproxy.spec import READINESS_SERVICE, EnvoySpec, SocketAddress
from aibrix_extproc.adapters.extproc._generated import external_processor_pb2 as pb
from aibrix_extproc.config_files.replacing import write_atomically
from aibrix_extproc.core.openai.contract.headers import DESTINATION
from tests.ports import free_port
from tests.waiting import until

LOOPBACK = "127.0.0.1"
DEADLINE = 60.0
LIMIT = 6 * 1024 * 1024


@dataclass
class ScriptedEngine:
    """Counts what reaches it and answers as told: `answer`, `refuse`, `reset`, `busy`."""

    behaviour: str = "answer"
    requests: list[bytes] = field(default_factory=list)
    port: int = 0
    hold: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["ScriptedEngine"]:
        if self.behaviour == "refuse":
            self.port = free_port()
            yield self
            return
        server = await asyncio.start_server(self._serve, LOOPBACK, 0, limit=64 * 1024 * 1024)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await _read_body(head, reader)
                self.requests.append(head)
                if self.behaviour == "reset":
                    break
                if self.behaviour == "stream":
                    await self._stream(writer)
                    continue
                body = json.dumps({"served_by": self.port}).encode()
                status = b"503 Busy" if self.behaviour == "busy" else b"200 OK"
                writer.write(
                    b"HTTP/1.1 %s\r\nserver: uvicorn\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
                    % (status, len(body), body)
                )
                await writer.drain()
        writer.close()

    async def _stream(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        writer.write(b"9\r\ndata: 1\n\n\r\n")
        await writer.drain()
        await self.hold.wait()
        writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
        await writer.drain()


async def _read_body(head: bytes, reader: asyncio.StreamReader) -> None:
    lines = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
    if b"content-length" in lines:
        await reader.readexactly(int(lines[b"content-length"]))
    elif lines.get(b"transfer-encoding") == b"chunked":
        while size := int(await reader.readline(), 16):
            await reader.readexactly(size + 2)
        await reader.readline()


@dataclass
class ScriptedProcessor:
    """An ext_proc server that places every request at `place`, or answers it with `immediate`."""

    place: str = ""
    immediate: tuple[int, str, bytes] | None = None  # status, content type, body
    abort: bool = False
    hang: bool = False
    messages: list[pb.ProcessingRequest] = field(default_factory=list)
    port: int = field(default_factory=free_port)
    health: HealthServicer = field(default_factory=HealthServicer)
    _server: grpc.aio.Server | None = None

    async def start(self) -> None:
        server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)])
        method = grpc.stream_stream_rpc_method_handler(
            self._process,
            request_deserializer=pb.ProcessingRequest.FromString,
            response_serializer=pb.ProcessingResponse.SerializeToString,
        )
        name = "envoy.service.ext_proc.v3.ExternalProcessor"
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, {"Process": method}),))
        health_pb2_grpc.add_HealthServicer_to_server(self.health, server)
        await self.health.set(READINESS_SERVICE, health_pb2.HealthCheckResponse.SERVING)
        assert server.add_insecure_port(f"{LOOPBACK}:{self.port}") == self.port
        await server.start()
        self._server = server

    async def reset(self) -> None:
        """As it was made: it runs, is told nothing to do, and has heard nothing."""
        self.place, self.immediate, self.abort, self.hang = "", None, False, False
        if self._server is None:
            await self.start()
        self.messages.clear()

    async def kill(self) -> None:
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    async def _process(
        self, requests: AsyncIterator[pb.ProcessingRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[pb.ProcessingResponse]:
        async for message in requests:
            self.messages.append(message)
            if self.abort:
                await context.abort(grpc.StatusCode.INTERNAL, "scripted")
            if self.hang:
                await asyncio.Event().wait()
            yield self._answer(message)

    def _answer(self, message: pb.ProcessingRequest) -> pb.ProcessingResponse:
        kind = message.WhichOneof("request")
        if kind == "request_headers" and self.immediate is not None:
            return self._refusal(*self.immediate)
        reply = pb.ProcessingResponse()
        common = getattr(reply, str(kind)).response
        common.SetInParent()
        final = kind == "request_body" or (kind == "request_headers" and message.request_headers.end_of_stream)
        if final and self.place:
            option = common.header_mutation.set_headers.add()
            option.header.key, option.header.raw_value = DESTINATION, self.place.encode()
            option.append_action = pb.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
            common.clear_route_cache = True
        return reply

    def _refusal(self, status: int, content_type: str, body: bytes) -> pb.ProcessingResponse:
        reply = pb.ProcessingResponse()
        immediate = reply.immediate_response
        immediate.status.code, immediate.body, immediate.details = status, body, "scripted"
        option = immediate.headers.set_headers.add()
        option.header.key, option.header.raw_value = "content-type", content_type.encode()
        option.append_action = pb.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
        return reply

    def attributes(self, kind: str) -> dict[str, Any]:
        """The attributes that came with the last message of a kind."""
        found = [one for one in self.messages if one.WhichOneof("request") == kind]
        values = found[-1].attributes["envoy.filters.http.ext_proc"].fields if found else {}
        return {name: value.string_value or value.number_value for name, value in values.items()}


@dataclass
class RunningEnvoy:
    """A real Envoy, its files, and clients for it."""

    spec: EnvoySpec
    processor: ScriptedProcessor
    log: Path

    @property
    def url(self) -> str:
        return f"http://{self.spec.listen}"

    def set_endpoints(self, *addresses: str) -> None:
        write_atomically(self.spec.endpoints_file, render_endpoints(addresses))

    async def admin(self, path: str) -> str:
        async with aiohttp.ClientSession() as session, session.get(f"http://{self.spec.admin}{path}") as response:
            return await response.text()

    async def wait_for_processors(self, healthy: int) -> None:
        async def seen() -> bool:
            return f"cluster.processors.membership_healthy: {healthy}\n" in await self.admin(
                "/stats?filter=membership_healthy"
            )

        await until(seen, f"{healthy} healthy processors")

    async def wait_for_endpoints(self, count: int) -> None:
        async def seen() -> bool:
            return f"cluster.engines.membership_total: {count}\n" in await self.admin("/stats?filter=membership_total")

        await until(seen, f"{count} endpoints")

    async def ask(self, path: str = "/v1/chat/completions", **options: Any) -> "Answer":
        method = options.pop("method", "POST")
        if method == "POST":
            options.setdefault("data", b'{"model": "m"}')
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, self.url + path, allow_redirects=False, **options) as response,
        ):
            return Answer(response.status, {k.lower(): v for k, v in response.headers.items()}, await response.read())

    async def raw(self, request: bytes) -> "Answer":
        """Send bytes as they are and read until the connection ends or the announced length is there."""
        reader, writer = await asyncio.open_connection(self.spec.listen.host, self.spec.listen.port)
        writer.write(request)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), DEADLINE)
        lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)}
        body = await asyncio.wait_for(reader.readexactly(int(headers.get("content-length", "0"))), DEADLINE)
        writer.close()
        return Answer(int(lines[0].split(" ")[1]), headers, body)


@dataclass(frozen=True)
class Answer:
    """What a client got."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        """The OpenAI error, after checking all that every error answer has in common."""
        assert self.headers["content-type"] == "application/json", self
        assert self.headers.get("x-request-id"), self
        error: dict[str, Any] = json.loads(self.body)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["code"] is None or isinstance(error["code"], str)
        return error


@contextlib.asynccontextmanager
async def running_envoy(
    directory: Path, processor: ScriptedProcessor, *others: ScriptedProcessor, **changes: Any
) -> AsyncIterator[RunningEnvoy]:
    """Start Envoy with our configuration and wait until it takes requests."""
    spec = EnvoySpec(
        listen=SocketAddress(LOOPBACK, free_port()),
        admin=SocketAddress(LOOPBACK, free_port()),
        processors=tuple(SocketAddress(LOOPBACK, one.port) for one in (processor, *others)),
        endpoints_directory=directory,
        access_log=directory / "access.log",
        **changes,
    )
    envoy = RunningEnvoy(spec, processor, directory / "envoy.log")
    envoy.set_endpoints()
    write_configuration(spec, directory / "envoy.json")
    with envoy.log.open("wb") as log:
        arguments = command(find_envoy(), directory / "envoy.json", concurrency=1)
        process = await asyncio.create_subprocess_exec(*arguments, stdout=log, stderr=log)
    try:
        await until(lambda: _is_live(envoy, process), "Envoy is live")
        yield envoy
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _is_live(envoy: RunningEnvoy, process: asyncio.subprocess.Process) -> bool:
    assert process.returncode is None, envoy.log.read_text()[-3000:]
    try:
        return (await envoy.admin("/ready")).strip() == "LIVE"
    except aiohttp.ClientError:
        return False


async def reaches_processor(envoy: RunningEnvoy) -> bool:
    await envoy.ask()
    return bool(envoy.processor.messages)


async def known(envoy: RunningEnvoy, *engines: ScriptedEngine) -> None:
    envoy.set_endpoints(*(engine.address for engine in engines))
    await envoy.wait_for_endpoints(len(engines))
