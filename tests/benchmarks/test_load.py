import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable

from benchmarks.engine import EngineConnection
from benchmarks.load import Job, run
from benchmarks.processes import peak_bytes, reset_peak, tree, usage


@contextlib.asynccontextmanager
async def serving(protocol: Callable[[], asyncio.Protocol]) -> AsyncIterator[int]:
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def a_job(port: int, **changes: object) -> Job:
    values = {
        "port": port, "connections": 3, "requests": 20, "warmup": 3, "body_bytes": 914, "stream": False, "reply": "",
        "expected_events": 0, "watched": {"engine": (os.getpid(),)}, "deadline_seconds": 60.0, **changes,
    }  # fmt: skip
    return Job(**values)  # type: ignore[arg-type]


async def test_load_measures_every_request_but_not_the_warmup() -> None:
    async with serving(EngineConnection) as port:
        outcome = await run(a_job(port))
    assert outcome.errors == []
    assert outcome.answered == 20
    assert 0 < outcome.p50 <= outcome.p99
    assert outcome.cpu["engine"] > 0
    assert outcome.rss_after["engine"] > 0


async def test_load_sends_bodies_that_arrive_in_pieces() -> None:
    async with serving(EngineConnection) as port:
        outcome = await run(a_job(port, body_bytes=1_000_000, requests=3, warmup=0))
    assert (outcome.errors, outcome.answered) == ([], 3)


async def test_load_reads_streams_to_their_end() -> None:
    async with serving(EngineConnection) as port:
        outcome = await run(a_job(port, reply="stream;chunks=7;pace_ms=1", expected_events=8, requests=3, warmup=0))
    assert (outcome.errors, outcome.answered) == ([], 3)


async def test_load_counts_a_stream_that_is_too_short_as_an_error() -> None:
    async with serving(EngineConnection) as port:
        outcome = await run(a_job(port, reply="stream;chunks=6", expected_events=8, requests=3, warmup=0))
    assert outcome.errors == ["7 events instead of 8"] * 3


async def test_load_counts_a_lost_connection_as_an_error() -> None:
    class Rude(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.close()

    async with serving(Rude) as port:
        outcome = await run(a_job(port, connections=1, requests=1, warmup=0))
    assert outcome.errors == ["connection lost: None"]


async def test_engine_answers_what_a_gateway_asks_it() -> None:
    async def ask(path: bytes) -> bytes:
        writer.write(b"GET " + path + b" HTTP/1.1\r\nhost: e\r\n\r\n")
        return await reader.readline()

    async with serving(EngineConnection) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert b"200" in await ask(b"/health")
        writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert b"404" in await ask(b"/load")
        writer.close()


def test_process_readings_are_of_this_process() -> None:
    mine = (os.getpid(),)
    reset_peak(mine)
    before = usage(mine)
    sum(range(200_000))
    after = usage(mine)
    assert after.cpu_seconds > before.cpu_seconds
    assert peak_bytes(mine) >= after.rss_bytes // 2
    assert os.getpid() in tree(os.getppid())
