"""The load generator, a process of its own: a closed loop over keep-alive connections, raw bytes on uvloop.

Takes one job as JSON and prints one result as JSON. It reads the CPU clocks of the measured processes itself, right
before the first measured request and right after the last, so that nothing else falls into the window.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import cast

import uvloop

from benchmarks.processes import Usage, usage
from benchmarks.results import percentile
from benchmarks.wire import ReplyReader, chat_body, chat_request


@dataclass(frozen=True, slots=True)
class Job:
    """What to send and whom to watch. `requests` and `warmup` are totals over all connections."""

    port: int
    connections: int
    requests: int
    warmup: int
    body_bytes: int
    stream: bool
    reply: str
    expected_events: int
    watched: Mapping[str, tuple[int, ...]]
    deadline_seconds: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened. CPU in seconds over the whole window, latencies in seconds, RSS in bytes."""

    seconds: float
    answered: int
    p50: float
    p99: float
    cpu: dict[str, float]
    rss_before: dict[str, int]
    rss_held: dict[str, int]  # halfway through the window
    rss_after: dict[str, int]
    errors: list[str] = field(default_factory=list)


class Connection(asyncio.Protocol):
    """One client: sends the next request when the reply of the last is whole."""

    def __init__(self, crowd: "Crowd") -> None:
        self._crowd = crowd
        self._reader = ReplyReader()
        self._sent_at = 0.0
        self._waiting = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class, no asyncio.Transport

    def send(self) -> None:
        """Send the request."""
        self._waiting = True
        self._sent_at = time.perf_counter()
        self._transport.write(self._crowd.request)

    def data_received(self, data: bytes) -> None:
        """Count a finished reply and go on."""
        reply = self._reader.feed(data)
        if reply is not None:
            self._waiting = False
            self._crowd.done(self, time.perf_counter() - self._sent_at, reply.problem(self._crowd.job.expected_events))

    def connection_lost(self, exc: Exception | None) -> None:
        """A lost connection is an error whenever a reply was due."""
        if self._waiting:
            self._crowd.done(self, 0.0, f"connection lost: {exc}", usable=False)

    def close(self) -> None:
        """Leave."""
        self._transport.abort()


class Crowd:
    """All connections of one job."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.request = chat_request(chat_body(job.body_bytes, stream=job.stream), job.reply)
        self.errors: list[str] = []
        self.latencies: list[float] = []
        self._left = 0
        self._open = 0
        self._finished: asyncio.Future[None] | None = None

    def done(self, connection: Connection, seconds: float, problem: str | None, *, usable: bool = True) -> None:
        """One request of one connection is over."""
        if problem is None:
            self.latencies.append(seconds)
        else:
            self.errors.append(problem)
        if self._left > 0 and usable and len(self.errors) < 20:
            self._left -= 1
            connection.send()
            return
        self._open -= 1
        if self._open == 0 and self._finished is not None and not self._finished.done():
            self._finished.set_result(None)

    async def send(self, connections: list[Connection], requests: int) -> None:
        """Send so many requests, spread over the connections as each becomes free."""
        self._finished = asyncio.get_running_loop().create_future()
        active = connections[:requests]
        self._open, self._left = len(active), requests - len(active)
        for connection in active:
            connection.send()
        if active:
            await self._finished


async def run(job: Job) -> Outcome:
    """Do a job."""
    loop = asyncio.get_running_loop()
    crowd = Crowd(job)
    connections: list[Connection] = []
    for _ in range(job.connections):
        _, connection = await loop.create_connection(lambda: Connection(crowd), "127.0.0.1", job.port)
        connections.append(connection)
    held: dict[str, Usage] = {}
    try:
        async with asyncio.timeout(job.deadline_seconds):
            await crowd.send(connections, job.warmup)
            crowd.latencies.clear()
            before, started = _usages(job), time.perf_counter()
            watch = loop.call_later(_half_time(job.reply), lambda: held.update(_usages(job)))
            await crowd.send(connections, job.requests)
            after, ended = _usages(job), time.perf_counter()
            watch.cancel()
    except TimeoutError:
        crowd.errors.append(f"not done within {job.deadline_seconds:g} s")
        return Outcome(0.0, 0, 0.0, 0.0, {}, {}, {}, {}, crowd.errors)
    finally:
        for connection in connections:
            connection.close()
    return Outcome(
        ended - started,
        len(crowd.latencies),
        percentile(crowd.latencies, 0.5),
        percentile(crowd.latencies, 0.99),
        {name: after[name].cpu_seconds - before[name].cpu_seconds for name in after},
        {name: one.rss_bytes for name, one in before.items()},
        {name: one.rss_bytes for name, one in (held or after).items()},
        {name: one.rss_bytes for name, one in after.items()},
        crowd.errors,
    )


def _half_time(reply: str) -> float:
    """Seconds until about half of a paced stream has gone by; far away for what is not paced."""
    plan = dict(option.split("=") for option in reply.split(";")[1:])
    pace = float(plan.get("pace_ms", 0)) / 1000
    return pace * float(plan["chunks"]) / 2 if pace else 3600.0


def _usages(job: Job) -> dict[str, Usage]:
    return {name: usage(pids) for name, pids in job.watched.items()}


def main() -> None:
    """Do the job given as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job")
    job = Job(**json.loads(parser.parse_args().job))
    print(json.dumps(asdict(uvloop.run(run(job)))))


if __name__ == "__main__":
    main()
