"""Starts everything once, then lets every scenario run on every target in turn, round after round."""

import asyncio
import contextlib
import dataclasses
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from benchmarks.load import Job, Outcome
from benchmarks.processes import LOOPBACK, Started, free_port, peak_bytes, reset_peak, tree, usage
from benchmarks.results import Sample
from benchmarks.scenarios import Scenario
from benchmarks.targets import Running, Target
from benchmarks.wire import chat_body, chat_request

ENGINES = 4
_START_SECONDS = 30.0


class BenchmarkError(Exception):
    """The run cannot go on, or what it measured is worth nothing."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run does."""

    targets: tuple[Target, ...]
    scenarios: tuple[Scenario, ...]
    rounds: int
    quick: bool
    envoy: Path
    envoy_workers: int


class Rig:
    """Running targets over one engine process."""

    def __init__(self, plan: Plan, running: Sequence[Running], engine: Started, session: aiohttp.ClientSession) -> None:
        self._plan = plan
        self._running = running
        self._engine = engine
        self._session = session

    async def samples(self) -> AsyncIterator[Sample]:
        """One sample after the other. Each round starts with another target, so that none is always first."""
        for turn in range(self._plan.rounds):
            for scenario in self._plan.scenarios:
                if scenario.rounds is not None and turn >= scenario.rounds:
                    continue
                for running in rotated(self._running, turn):
                    if running.target.key not in scenario.not_on:
                        yield await self._sample(scenario, running, turn)

    async def _sample(self, scenario: Scenario, running: Running, turn: int) -> Sample:
        running.check()
        if scenario.requests == 0:
            return await self._idle(scenario, running, turn)
        watched = {**running.watched(), "engine": tree(self._engine.pid)}
        measured = watched.get("ext_proc", ())
        streams_before, messages_before = await running.messages(self._session)
        reset_peak(measured)
        job = self._job(scenario, running, watched)
        outcome = await run_load(job)
        running.check()
        if outcome.errors:
            raise BenchmarkError(
                f"{scenario.title} on {running.target.title}: {len(outcome.errors)} errors, the first: "
                f"{outcome.errors[0]}\n{running.logs()}"
            )
        streams, messages = await running.messages(self._session)
        exchanges = job.requests + job.warmup
        if measured and streams - streams_before != exchanges:
            raise BenchmarkError(f"{scenario.title}: {exchanges} requests gave {streams - streams_before} exchanges")
        return Sample(
            scenario=scenario.key,
            target=running.target.key,
            turn=turn,
            requests=job.requests,
            seconds=outcome.seconds,
            cpu_us={name: used * 1e6 / job.requests for name, used in outcome.cpu.items()},
            p50_ms=outcome.p50 * 1000,
            p99_ms=outcome.p99 * 1000,
            messages=(messages - messages_before) / exchanges if measured else 0.0,
            rss_before=outcome.rss_before.get("ext_proc", 0),
            rss_held=outcome.rss_held.get("ext_proc", 0),
            rss_peak=peak_bytes(measured),
            rss_after=outcome.rss_after.get("ext_proc", 0),
        )

    def _job(self, scenario: Scenario, running: Running, watched: dict[str, tuple[int, ...]]) -> Job:
        return Job(
            port=running.port,
            connections=scenario.connections,
            requests=scenario.sample_size(self._plan.quick),
            warmup=scenario.warmup_size(self._plan.quick),
            body_bytes=scenario.body_bytes,
            stream=bool(scenario.chunks),
            reply=scenario.reply,
            expected_events=scenario.expected_events,
            watched=watched,
            deadline_seconds=180,
        )

    async def _idle(self, scenario: Scenario, running: Running, turn: int) -> Sample:
        watched = running.watched()
        before = {name: usage(pids) for name, pids in watched.items()}
        await asyncio.sleep(scenario.idle_seconds)
        after = {name: usage(pids) for name, pids in watched.items()}
        # Here "per request" means per second: microseconds a second are millionths of a core.
        cpu = {
            name: (after[name].cpu_seconds - before[name].cpu_seconds) * 1e6 / scenario.idle_seconds for name in after
        }
        rss = after["ext_proc"].rss_bytes if "ext_proc" in after else 0
        return Sample(
            scenario.key, running.target.key, turn, 0, scenario.idle_seconds, cpu, 0.0, 0.0, 0.0, rss, rss, rss, rss
        )


def rotated(items: Sequence[Running], by: int) -> Iterator[Running]:
    """The same items beginning with another one."""
    start = by % len(items)
    yield from items[start:]
    yield from items[:start]


async def run_load(job: Job) -> Outcome:
    """Run the load generator as a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.load", json.dumps(dataclasses.asdict(job))), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    if process.returncode != 0:
        raise BenchmarkError(f"the load generator ended with code {process.returncode}")
    return Outcome(**json.loads(output))


@contextlib.asynccontextmanager
async def started(plan: Plan) -> AsyncIterator[Rig]:
    """Start the engine and every target; stop all of them at the end."""
    with contextlib.ExitStack() as stack, tempfile.TemporaryDirectory(prefix="bench-") as name:
        directory = Path(name)
        ports = [free_port() for _ in range(ENGINES)]
        arguments = (sys.executable, "-m", "benchmarks.engine", *map(str, ports))
        engine = Started("the engine", arguments, directory / "engine.log")
        stack.callback(engine.stop)
        engines = tuple(f"{LOOPBACK}:{port}" for port in ports)
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            await until_engines_answer(session, engine, engines)
            running = []
            for target in plan.targets:
                place = directory / target.key
                place.mkdir()
                one = Running(target, engines, plan.envoy, plan.envoy_workers, place)
                stack.callback(one.stop)
                running.append(one)
            for one in running:
                await until_serving(session, one)
            yield Rig(plan, running, engine, session)


async def until_engines_answer(session: aiohttp.ClientSession, engine: Started, engines: Sequence[str]) -> None:
    """Wait until the engine listens on its last port."""

    async def answers() -> bool:
        engine.check()
        try:
            async with session.get(f"http://{engines[-1]}/health") as reply:
                return reply.status == 200
        except aiohttp.ClientError:
            return False

    await _until(answers, engine.last_words)


async def until_serving(session: aiohttp.ClientSession, running: Running) -> None:
    """Wait until a chat through Envoy gets its answer."""
    await _until(lambda: running.is_ready(session), running.logs)
    head, _, body = chat_request(chat_body(914)).partition(b"\r\n\r\n")
    lines = [(name, value) for name, _, value in (line.partition(": ") for line in head.decode().split("\r\n")[1:])]

    async def answers() -> bool:
        running.check()
        url = f"http://{LOOPBACK}:{running.port}/v1/chat/completions"
        async with session.post(url, data=body, headers=dict(lines)) as reply:
            return reply.status == 200

    await _until(answers, running.logs)


async def _until(condition: Callable[[], Awaitable[bool]], explain: Callable[[], str]) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + _START_SECONDS
    while not await condition():
        if loop.time() > end:
            raise BenchmarkError(f"not ready within {_START_SECONDS:g} s:\n{explain()}")
        await asyncio.sleep(0.05)
