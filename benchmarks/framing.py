"""What HTTP/2 and gRPC alone take: exchanges of constants on the lean transport's frames, without a socket."""

import asyncio
import cProfile
import itertools
import time
from collections.abc import Sequence
from typing import Final

import hpack

from aibrix_extproc.adapters.extproc.lean_methods import PROCESS_PATH
from aibrix_extproc.http2 import frames
from aibrix_extproc.http2.call_table import CallTable
from aibrix_extproc.http2.deframer import length_prefixed
from aibrix_extproc.http2.limits import MIB, ConnectionLimits
from benchmarks.bare_server import ConstantCall, constant_answers
from benchmarks.cpu_profile import Profile
from benchmarks.inside import CALLS, SERIES, envoy_messages, shares

_HEADERS: Final = (
    (b":method", b"POST"),
    (b":scheme", b"http"),
    hpack.NeverIndexedHeaderTuple(b":path", PROCESS_PATH),
    (b":authority", b"ext_proc"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
    (b"grpc-timeout", b"3600000m"),
)

_FRAME_BYTES: Final = frames.DEFAULT_FRAME_BYTES
_ENGINE: Final = "127.0.0.1:9101"


class Framing:
    """One connection of an Envoy, as bytes."""

    def __init__(self, messages: Sequence[bytes]) -> None:
        answers = constant_answers(_ENGINE)
        self._calls = CallTable(
            {PROCESS_PATH: lambda _: ConstantCall(answers, parse=False)},
            *(asyncio.get_running_loop(), lambda: None, ConnectionLimits()),
            max_message_bytes=64 * MIB,
        )
        self._messages = [length_prefixed(message) for message in messages]
        self._encoder = hpack.Encoder()
        self._streams = itertools.count(1, 2)
        room = frames.window_update(0, frames.MAX_WINDOW - frames.DEFAULT_WINDOW)
        self._send(frames.PREFACE + frames.settings({}) + room)

    def _send(self, data: bytes) -> bytes:
        connection = self._calls.connection
        connection.receive(data, 0.0)
        while connection.has_unread:
            connection.receive(b"", 0.0)
        return connection.take()

    def client_bytes(self) -> Sequence[bytes]:
        """What Envoy writes in the course of one exchange: each message with its frames, and the end."""
        stream = next(self._streams)
        block = self._encoder.encode(_HEADERS)
        chunks = [frames.frame(frames.HEADERS, frames.END_HEADERS, stream, block)]
        for message in self._messages:
            starts = range(0, len(message), _FRAME_BYTES)
            chunks.append(
                b"".join(frames.frame(frames.DATA, 0, stream, message[at : at + _FRAME_BYTES]) for at in starts)
            )
        return chunks[0] + chunks[1], *chunks[2:], frames.frame(frames.DATA, frames.END_STREAM, stream)

    def exchange(self, client_bytes: Sequence[bytes]) -> None:
        """One exchange, as the server sees it."""
        for data in client_bytes:
            assert self._send(data)


def measure(body_bytes: int) -> float:
    """Microseconds of one exchange, the best of many short series."""
    return asyncio.run(_measure(body_bytes))


async def _measure(body_bytes: int) -> float:
    framing, series = Framing(envoy_messages(body_bytes, _ENGINE)), []
    for _ in range(SERIES):
        exchanges = [framing.client_bytes() for _ in range(CALLS)]
        started = time.perf_counter()
        for client_bytes in exchanges:
            framing.exchange(client_bytes)
        series.append(time.perf_counter() - started)
    return min(series) / CALLS * 1e6


def profile_by_module(body_bytes: int) -> Profile:
    """Of the same."""
    return shares(asyncio.run(_profiled(body_bytes)))


async def _profiled(body_bytes: int) -> cProfile.Profile:
    framing, profile = Framing(envoy_messages(body_bytes, _ENGINE)), cProfile.Profile()
    for _ in range(SERIES):
        exchanges = [framing.client_bytes() for _ in range(CALLS)]
        with profile:
            for client_bytes in exchanges:
                framing.exchange(client_bytes)
    return profile
