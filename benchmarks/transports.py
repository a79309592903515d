"""What each transport costs: the same three messages, the same wiring, a client that behaves as Envoy does, no Envoy.

`python -m benchmarks.transports` starts one server process per transport and asks them in turn, several rounds, so that
what disturbs the machine disturbs all of them. CPU is what the kernel charged the server's threads; the client's own is
not in it. Half of the streams end by a half-close, half by CANCEL, as Envoy's do.
"""

import argparse
import asyncio
import contextlib
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import hpack
import uvloop

from aibrix_extproc.adapters.extproc.grpcio_server import GrpcioServer
from aibrix_extproc.adapters.extproc.lean_methods import PROCESS_PATH, process_method
from aibrix_extproc.adapters.extproc.lean_transport import LeanTransport
from aibrix_extproc.app.memory import keep_freed_memory
from benchmarks.h2_server import H2Server
from benchmarks.inside import _ENGINES, _gateway, envoy_messages

TRANSPORTS: Final = ("grpcio", "h2", "lean")
MAX_BODY_BYTES: Final = 64 * 1024 * 1024
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST, _SETTINGS, _PING, _WINDOW = 0, 1, 3, 4, 6, 8
_FRAME: Final = struct.Struct(">BHBBL")
_WORD: Final = struct.Struct(">L")
_REQUEST: Final = (
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/envoy.service.ext_proc.v3.ExternalProcessor/Process"),
    (":authority", "ext_proc"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
    ("x-envoy-internal", "true"),
    ("x-forwarded-for", "10.0.0.1"),
)


def _frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    return _FRAME.pack(len(payload) >> 16, len(payload) & 0xFFFF, kind, flags, stream_id) + payload


class _Client(asyncio.Protocol):
    """One connection with `concurrency` streams at a time, until `left` exchanges are done."""

    def __init__(self, messages: Sequence[Sequence[bytes]], concurrency: int, left: int, frame_bytes: int) -> None:
        self._messages = messages
        self._left = left
        self._running = 0
        self._concurrency = concurrency
        self._frame_bytes = frame_bytes
        self._encoder = hpack.Encoder()
        self._next_id = 1
        self._step: dict[int, int] = {}
        self._window = 65535
        self._initial_window = 65535
        self._windows: dict[int, int] = {}
        self._unsent: dict[int, bytes] = {}
        self._out: list[bytes] = []
        self._buffer = b""
        self._ready = False
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        settings = struct.pack(">HLHL", 4, 2**30, 5, 1024 * 1024)
        self._out += (_PREFACE, _frame(_SETTINGS, 0, 0, settings), _frame(_WINDOW, 0, 0, _WORD.pack(2**30)))
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("the server hung up"))

    def _flush(self) -> None:
        out, self._out = self._out, []
        if out:
            self._transport.write(b"".join(out))  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data
        at = 0
        while len(data) - at >= 9:
            high, low, kind, flags, stream = _FRAME.unpack_from(data, at)
            end = at + 9 + (high << 16) + low
            if end > len(data):
                break
            self._on_frame(kind, flags, stream, data[at + 9 : end])
            at = end
        self._buffer = data[at:]
        while self._ready and self._left and self._running < self._concurrency:
            self._begin()
        self._flush()
        if not self._left and not self._running and not self.done.done():
            self.done.set_result(None)

    def _on_frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _DATA:
            self._answered(stream)
        elif kind == _HEADERS and flags & 1 and stream in self._step:
            self._end(stream)
        elif kind == _SETTINGS and not flags & 1:
            for name, value in struct.iter_unpack(">HL", payload):
                if name == 4:
                    self._resize(value)
            self._out.append(_frame(_SETTINGS, 1, 0))
            self._ready = True
        elif kind == _PING and not flags & 1:
            self._out.append(_frame(_PING, 1, 0, payload))
        elif kind == _WINDOW:
            (more,) = _WORD.unpack(payload)
            if stream:
                self._windows[stream] = self._windows.get(stream, 0) + more
            else:
                self._window += more
            for one in tuple(self._unsent):
                self._pump(one)

    def _resize(self, window: int) -> None:
        for stream in self._windows:
            self._windows[stream] += window - self._initial_window
        self._initial_window = window
        for one in tuple(self._unsent):
            self._pump(one)

    def _begin(self) -> None:
        stream, self._next_id = self._next_id, self._next_id + 2
        self._left -= 1
        self._running += 1
        self._step[stream] = 0
        self._windows[stream] = self._initial_window
        self._out.append(_frame(_HEADERS, 4, stream, self._encoder.encode(_REQUEST)))
        self._send(stream, 0)

    def _send(self, stream: int, step: int) -> None:
        message = self._messages[stream // 2 % len(self._messages)][step]
        self._unsent[stream] = b"\0" + _WORD.pack(len(message)) + message
        self._pump(stream)

    def _pump(self, stream: int) -> None:
        unsent = self._unsent.pop(stream)
        while unsent:
            size = min(len(unsent), self._window, self._windows[stream], self._frame_bytes)
            if size <= 0:
                self._unsent[stream] = unsent
                return
            self._out.append(_frame(_DATA, 0, stream, unsent[:size]))
            self._window -= size
            self._windows[stream] -= size
            unsent = unsent[size:]

    def _answered(self, stream: int) -> None:
        step = self._step[stream] = self._step[stream] + 1
        if step < 3:
            self._send(stream, step)
        elif stream % 4 == 1:
            self._out.append(_frame(_RST, 0, stream, _WORD.pack(8)))
            self._end(stream)
        else:
            self._out.append(_frame(_DATA, 1, stream))

    def _end(self, stream: int) -> None:
        del self._step[stream]
        self._windows.pop(stream, None)
        self._running -= 1


def cpu_seconds(pid: int) -> float:
    """CPU of all threads of a process, from the scheduler's nanoseconds."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


@dataclass
class Server:
    """A server process and what it cost, in microseconds of CPU per exchange, one figure per round."""

    name: str
    process: "subprocess.Popen[str]"
    port: int
    cost: dict[int, list[float]] = field(default_factory=dict)


def start(name: str, path: str | None, stack: contextlib.ExitStack) -> Server:
    """A server process that ends with the stack; `path` is another source tree to take the product from."""
    environment = {"PYTHONPATH": path} if path else None
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.transports", "--serve", name],
        stdout=subprocess.PIPE, text=True, cwd=path, env=environment,
    )  # fmt: skip
    stack.callback(process.wait)
    stack.callback(process.terminate)
    assert process.stdout is not None
    port = process.stdout.readline()
    if not port:
        raise SystemExit(f"the server of {path or 'this tree'} ended; what it wrote stands above")
    return Server(name if path is None else f"{name} ({Path(path).name})", process, int(port))


async def measure(server: Server, body_bytes: int, exchanges: int, concurrency: int, frame_bytes: int) -> float:
    """Microseconds of the server's CPU for one exchange."""
    messages = [envoy_messages(body_bytes, engine) for engine in _ENGINES]
    loop = asyncio.get_running_loop()
    before = cpu_seconds(server.process.pid)
    transport, client = await loop.create_connection(
        lambda: _Client(messages, concurrency, exchanges, frame_bytes), "127.0.0.1", server.port
    )
    async with asyncio.timeout(120):
        await client.done
    transport.close()
    return (cpu_seconds(server.process.pid) - before) / exchanges * 1e6


async def compare(servers: Sequence[Server], rounds: int, concurrency: int, frame_bytes: int) -> None:
    """Ask all of them in turn, and print medians and ratios to the first one."""
    for body_bytes, exchanges in ((914, 4_000), (220_000, 400)):
        for server in servers:
            await measure(server, body_bytes, exchanges // 4, concurrency, frame_bytes)  # warm
        for turn in range(rounds):
            for server in servers if turn % 2 else reversed(servers):
                cost = await measure(server, body_bytes, exchanges, concurrency, frame_bytes)
                server.cost.setdefault(body_bytes, []).append(cost)
        print(f"\n{body_bytes} bytes, concurrency {concurrency}, us of CPU per exchange: median (least), to the first")
        first = statistics.median(servers[0].cost[body_bytes])
        for server in servers:
            series = server.cost[body_bytes]
            median = statistics.median(series)
            print(f"  {server.name:24} {median:8.1f} ({min(series):7.1f})  {median / first:5.3f}")


async def _serve(name: str) -> None:
    keep_freed_memory()  # as `serve` does with each transport
    server: GrpcioServer | H2Server | LeanTransport
    new_session = _gateway("least-request").new_session
    if name == "h2":
        server = H2Server({PROCESS_PATH: process_method(new_session, asyncio.get_running_loop())})
    elif name == "grpcio":
        server = GrpcioServer(new_session, max_body_bytes=MAX_BODY_BYTES)
    else:
        server = LeanTransport(new_session, max_body_bytes=MAX_BODY_BYTES)
    print(await server.start("127.0.0.1", 0), flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """Serve, or start servers and compare them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transports", description=__doc__)
    parser.add_argument("--serve", choices=TRANSPORTS, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--frame-bytes", type=int, default=16_384, help="largest DATA frame of the client")
    parser.add_argument("--also", metavar="TREE", help="compare with the lean transport of another source tree")
    parser.add_argument("--only", nargs="*", choices=TRANSPORTS, default=TRANSPORTS)
    args = parser.parse_args()
    if args.serve:
        uvloop.run(_serve(args.serve))
        return
    wanted = [(name, None) for name in args.only] + ([("lean", args.also)] if args.also else [])
    with contextlib.ExitStack() as stack:
        servers = [start(name, tree, stack) for name, tree in wanted]
        started = time.perf_counter()
        uvloop.run(compare(servers, args.rounds, args.concurrency, args.frame_bytes))
        print(f"\n{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
