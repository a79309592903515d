"""The floor for any Python ext_proc server on uvloop: constant bytes for three messages, nothing read.

It answers by position (head, body, response head), sets the destination with `clear_route_cache` in the body's answer,
because the route to the engines matches that header, and neither parses nor builds a message. Beneath it is grpc.aio,
the h2 library, or the frames of the lean transport. With `--parse` it also parses each message, to show what that alone
costs.
"""

import argparse
import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Final

import grpc
import grpc.aio
import uvloop
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio

from aibrix_extproc.adapters.envoyproxy.spec import READINESS_SERVICE
from aibrix_extproc.adapters.extproc._generated.external_processor_pb2 import (
    HeaderValueOption,
    ProcessingRequest,
    ProcessingResponse,
)
from aibrix_extproc.adapters.extproc.health import Health
from aibrix_extproc.adapters.extproc.lean_health import health_methods
from aibrix_extproc.adapters.extproc.lean_methods import PROCESS_PATH
from aibrix_extproc.app.memory import keep_freed_memory
from aibrix_extproc.core.openai.contract.headers import DESTINATION
from aibrix_extproc.http2.frames import Piece
from aibrix_extproc.http2.handler import CallOutcome, Method
from aibrix_extproc.http2.server import GrpcServer
from benchmarks.h2_server import H2Server
from benchmarks.processes import LOOPBACK

SERVICE: Final = "envoy.service.ext_proc.v3.ExternalProcessor"
_MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024
Answers = tuple[bytes, bytes, bytes]


def constant_answers(destination: str) -> Answers:
    """The three answers, serialised once."""
    head, body, response_head = ProcessingResponse(), ProcessingResponse(), ProcessingResponse()
    head.request_headers.SetInParent()
    common = body.request_body.response
    option = common.header_mutation.set_headers.add()
    option.header.key = DESTINATION
    option.header.raw_value = destination.encode()
    option.append_action = HeaderValueOption.HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD
    common.clear_route_cache = True
    response_head.response_headers.SetInParent()
    return head.SerializeToString(), body.SerializeToString(), response_head.SerializeToString()


class ConstantCall:
    """One exchange of constant bytes."""

    __slots__ = ("_answers", "_parse")

    def __init__(self, answers: Answers, parse: bool) -> None:
        self._answers: Iterator[bytes] = iter(answers)
        self._parse = parse

    def message(self, payload: bytes) -> Iterable[bytes]:
        """The next of the answers."""
        if self._parse:
            ProcessingRequest.FromString(payload)
        return (next(self._answers),)

    def large_message(self, pieces: tuple[Piece, ...]) -> Iterable[bytes]:
        """The next of the answers."""
        return self.message(b"".join(pieces))

    def half_closed(self) -> Iterable[bytes]:
        """Envoy sends nothing more."""
        return ()

    def closed(self, outcome: CallOutcome) -> None:
        """Nothing to release."""


async def _serve_frames(transport: str, port: int, answers: Answers, parse: bool) -> None:
    keep_freed_memory()  # as `serve` does
    health = Health()
    health.set_ready(True)
    methods: dict[bytes, Method] = {PROCESS_PATH: lambda _: ConstantCall(answers, parse)}
    methods |= health_methods(health, set())
    if transport == "h2":
        await H2Server(methods).start(LOOPBACK, port)
    else:
        await GrpcServer(methods, max_message_bytes=_MAX_MESSAGE_BYTES).start(LOOPBACK, port)
    await asyncio.Event().wait()


async def _serve_grpcio(port: int, answers: Answers, parse: bool) -> None:
    async def process(_: object, context: "grpc.aio.ServicerContext[object, bytes]") -> None:
        read: Callable[[], Awaitable[object]] = context.read
        write = context.write
        for answer in answers:
            if await read() is grpc.aio.EOF:
                return
            await write(answer)
        await read()  # the stream stays open until the response has ended

    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
        ]
    )
    deserializer = ProcessingRequest.FromString if parse else None
    method = grpc.stream_stream_rpc_method_handler(process, request_deserializer=deserializer)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Process": method}),))
    health = health_aio.HealthServicer()
    await health.set(READINESS_SERVICE, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    server.add_insecure_port(f"{LOOPBACK}:{port}")
    await server.start()
    await server.wait_for_termination()


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--destination", required=True, help="the value of the destination header, ip:port,ip:port")
    parser.add_argument("--transport", choices=("grpcio", "h2", "lean"), default="grpcio")
    parser.add_argument("--parse", action="store_true", help="parse each message and drop it")
    args = parser.parse_args()
    answers = constant_answers(args.destination)
    if args.transport == "grpcio":
        uvloop.run(_serve_grpcio(args.port, answers, args.parse))
    else:
        uvloop.run(_serve_frames(args.transport, args.port, answers, args.parse))


if __name__ == "__main__":
    main()
