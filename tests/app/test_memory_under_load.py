"""Memory of the real process: what many streams and large bodies may take of it, and what is left of that."""

import asyncio
import contextlib
import re
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from aibrix_extproc.adapters.extproc._generated.external_processor_pb2 import (
    HttpBody,
    ProcessingRequest,
    ProcessingResponse,
)
from aibrix_extproc.app.memory import KEPT_BYTES
from tests.adapters.extproc.test_both_transports import PROCESS, head
from tests.adapters.extproc.transports import SERVING, check, plain
from tests.app.test_gateway_start import listening
from tests.build import MODEL, a_request_body
from tests.fakes.engine import FakeEngine
from tests.waiting import until

MIB = 1024 * 1024
STREAMS = 5_000
BODY_BYTES = 5 * MIB
AT_ONCE = 4
ROUNDS = 12

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc: run it on Linux")


@dataclass
class Gateway:
    """A running `serve` with one engine that is ready."""

    pid: int
    channel: Any

    def mib(self, which: str) -> float:
        """Resident memory now (VmRSS) or at its highest (VmHWM)."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(rf"{which}:\s+(\d+) kB", status)
        assert found
        return int(found[1]) / 1024

    async def place(self, body: bytes) -> Any:
        """A stream whose request was placed; it is held until it is cancelled."""
        call = self.channel.stream_stream(
            PROCESS,
            request_serializer=ProcessingRequest.SerializeToString,
            response_deserializer=ProcessingResponse.FromString,
        )()
        for message in (head(), ProcessingRequest(request_body=HttpBody(body=body, end_of_stream=True))):
            await call.write(message)
            answer = await call.read()
        assert answer.request_body.response.clear_route_cache, answer
        return call


@contextlib.asynccontextmanager
async def a_gateway() -> AsyncIterator[Gateway]:
    options = ("--transport", "lean", "--port", "0", "--admin-port", "0")
    async with FakeEngine(MODEL) as engine:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "aibrix_extproc", "serve", "--endpoint", f"http://{engine.address}", *options),
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(60):
                port = int((await listening(process))["ext_proc"].rpartition(":")[2])
            async with plain(port) as channel:

                async def is_serving() -> bool:
                    return bool(await check(channel, "readiness") == SERVING)

                await until(is_serving)
                yield Gateway(process.pid, channel)
        finally:
            process.kill()
            await process.communicate()


def a_body(size: int) -> bytes:
    return a_request_body(user="x" * size).data


@pytest.mark.slow
async def test_five_thousand_streams_that_are_open_take_less_than_300_mib_and_give_it_back() -> None:
    async with a_gateway() as gateway:
        before = gateway.mib("VmRSS")
        calls: list[Any] = []
        for _ in range(STREAMS // 100):
            calls += await asyncio.gather(*(gateway.place(a_body(1000)) for _ in range(100)))
        held = gateway.mib("VmHWM")
        for call in calls:
            call.cancel()
        assert len(calls) == STREAMS
        assert before < held < 300
        calls = await asyncio.gather(*(gateway.place(a_body(1000)) for _ in range(100)))
        again = gateway.mib("VmHWM")
        assert again < held + 5  # what was freed is used again


@pytest.mark.slow
async def test_bodies_of_5_mb_take_no_more_than_what_is_in_flight() -> None:
    async with a_gateway() as gateway:
        body, before = a_body(BODY_BYTES), gateway.mib("VmRSS")
        for _ in range(ROUNDS):
            for call in await asyncio.gather(*(gateway.place(body) for _ in range(AT_ONCE))):
                call.cancel()
        # Each body is there as frames, as a message and as its own bytes; no more, however many have come.
        assert gateway.mib("VmHWM") - before < AT_ONCE * 3 * BODY_BYTES / MIB
        await until(lambda: gateway.mib("VmRSS") < before + (KEPT_BYTES + 2 * BODY_BYTES) / MIB)
