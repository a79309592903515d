"""Measures what reading engines' metrics costs the gateway, and decisions by readings: `python -m benchmarks.gauges`.

A process of its own serves the metrics page of a simulated engine on many ports; the CPU of the reading process counts.
"""

import argparse
import asyncio
import multiprocessing
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Final

import aiohttp
import uvloop

from aibrix_extproc.adapters.engine.gauges import GaugeScraper
from aibrix_extproc.core.fleet.gauge_book import GaugeBook
from aibrix_extproc.core.fleet.gauges import EngineGauges
from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.fleet.model import Endpoint, Health
from aibrix_extproc.core.placing import RouteQuery
from aibrix_extproc.core.routing.measured import Measured
from aibrix_extproc.core.routing.pool import Pool
from aibrix_extproc.core.routing.registry import STRATEGIES
from aibrix_extproc.core.routing.signals import Signals
from aibrix_extproc.simulator.options import SimulatorOptions
from aibrix_extproc.simulator.server import Simulator

SETTLE_SECONDS: Final = 3.0
ROUNDS: Final = 100


class _Page(asyncio.Protocol):
    """Answers every request with the same bytes."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *heads, self._read = (self._read + data).split(b"\r\n\r\n")
        for _ in heads:
            self._transport.write(self._answer)


class _Counting:
    """Keeps readings and counts them."""

    def __init__(self) -> None:
        self.reads = 0
        self.book = GaugeBook()

    def read(self, endpoint: Endpoint, reading: EngineGauges) -> None:
        self.reads += 1
        self.book.take(endpoint.identity, reading)

    def failed(self, endpoint: Endpoint, reason: str) -> None:
        raise AssertionError(f"{endpoint.address}: {reason}")


def _serve(engines: int, ports: Connection) -> None:
    async def serve() -> None:
        async with (
            Simulator(SimulatorOptions()) as sim,
            aiohttp.ClientSession() as session,
            session.get(f"{sim.url}/metrics") as answer,
        ):
            page = await answer.read()
        answer_bytes = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(page), page)
        loop = asyncio.get_running_loop()
        servers = [await loop.create_server(lambda: _Page(answer_bytes), "127.0.0.1", 0) for _ in range(engines)]
        ports.send((len(page), [server.sockets[0].getsockname()[1] for server in servers]))
        await asyncio.Event().wait()

    asyncio.run(serve())


async def _read(ports: Sequence[int], own: int, seconds: float) -> str:
    endpoints = tuple(Endpoint(str(port), f"127.0.0.1:{port}", health=Health.READY) for port in ports)
    readings = _Counting()
    scraper = GaugeScraper(lambda: endpoints, lambda _: own, readings, clock=time.monotonic)
    task = asyncio.ensure_future(scraper.run())
    await asyncio.sleep(SETTLE_SECONDS)
    reads, cpu, started = readings.reads, time.process_time(), time.monotonic()
    await asyncio.sleep(seconds)
    reads, cpu, wall = readings.reads - reads, time.process_time() - cpu, time.monotonic() - started
    task.cancel()
    return (
        f"{reads / wall:6.1f} reads/s, {100 * cpu / wall:5.2f} % of a core, {1e6 * cpu / max(reads, 1):4.0f} us a read"
    )


def _decision_us(strategy: str, engines: int) -> float:
    """The shortest of many decisions, in microseconds."""
    endpoints = tuple(Endpoint(f"e{number:05}", f"10.0.0.1:{number}") for number in range(engines))
    load, book = LoadBook(), GaugeBook()
    for number, endpoint in enumerate(endpoints):
        for _ in range(number % 5):
            load.acquire(endpoint.identity)
        for step in (0.0, 1.0):
            book.take(
                endpoint.identity,
                EngineGauges(
                    at=step, running=3.0, waiting=1.0, kv_usage=0.1 * (number % 9), utilization=0.5, own=number % 5,
                    prompt_tokens=900 * step, generation_tokens=99 * step, first_tokens=step, first_token_seconds=step,
                    token_gaps=98 * step, token_gap_seconds=step,
                ),
            )  # fmt: skip
    scorer, query, shortest = STRATEGIES[strategy].make(), RouteQuery("m", body_bytes=1000), float("inf")
    for turn in range(ROUNDS):
        signals = Signals(load, turn, gauges=book, now=1.0)
        started = time.perf_counter()
        scorer.rank(query, Pool(endpoints), signals, 4)
        shortest = min(shortest, time.perf_counter() - started)
    return shortest * 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engines", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=15.0)
    options = parser.parse_args()
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=_serve, args=(options.engines, there), daemon=True)
    server.start()
    try:
        size, ports = here.recv()
        print(f"{options.engines} engines, pages of {size:,} bytes")
        for name, own in (("idle", 0), ("with requests of ours", 1)):
            print(f"{name:>22}: {uvloop.run(_read(ports, own, options.seconds))}")
    finally:
        server.kill()
    print("a decision, us         :  8 endpoints, 100, 1000")
    for name in (
        "least-request",
        *sorted(name for name, row in STRATEGIES.items() if isinstance(row.make(), Measured)),
    ):
        print(f"{name:>22}: " + ", ".join(f"{_decision_us(name, size):5.0f}" for size in (8, 100, 1000)))


if __name__ == "__main__":
    main()
