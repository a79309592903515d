"""`python -m benchmarks.churn`: a thousand pods, fifty changes a second, requests meanwhile; then no API server at all.

A real Envoy and a real `serve --kubernetes`; the API server is the tests' double and pods are loopback addresses of
one process, since neither is measured. Writes docs/churn.md.
"""

import argparse
import asyncio
import contextlib
import datetime
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp
import uvloop

from aibrix_extproc.adapters.envoyproxy.configure import command, configuration
from aibrix_extproc.adapters.envoyproxy.endpoints import render_endpoints
from aibrix_extproc.adapters.envoyproxy.find import EnvoyNotFoundError, find_envoy
from aibrix_extproc.adapters.envoyproxy.spec import EnvoySpec, SocketAddress
from aibrix_extproc.config_files.replacing import write_atomically
from benchmarks.processes import LOOPBACK, Started, free_port, usage
from benchmarks.soak_load import Kind, SoakCrowd
from benchmarks.wire import API_KEY, MODEL
from tests.fakes.kube_api import KubeApiDouble
from tests.kubeobjects import MODEL_LABEL, a_pod

PAGE: Final = Path("docs/churn.md")
NAMESPACE: Final = "llm"
GRACE_SECONDS: Final = 1.0  # from a pod's deletion to its end
CRASH_NEWS_SECONDS: Final = 0.2  # from a crash to the pod's being not ready
_MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Window:
    """What one stretch of time has cost and brought."""

    title: str
    seconds: float
    requests: int
    changes: int
    failures: tuple[str, ...]
    core_share: float
    rss_bytes: int
    late: Mapping[float, int]  # checks of the event loop that were at most so late, in seconds


@dataclass(slots=True)
class Result:
    """Everything."""

    pods: int
    ready_seconds: float = 0.0
    windows: list[Window] = field(default_factory=list)


class World:
    """The cluster: pods by name, each with an address of its own that is never used again."""

    def __init__(self, api: KubeApiDouble, engine: asyncio.subprocess.Process, port: int, seed: int) -> None:
        self._api = api
        self._engine = engine
        self._labels = {MODEL_LABEL: MODEL, "model.aibrix.ai/port": str(port)}
        self._dice = random.Random(seed)
        self._made = 0
        self._ready: dict[str, str] = {}
        self._unready: dict[str, str] = {}
        self._later: set[asyncio.TimerHandle] = set()
        self.changes = 0

    async def make(self, number: int) -> None:
        """So many more pods."""
        for _ in range(number):
            name, address = f"vllm-{self._made}", address_of(self._made)
            self._made += 1
            self._ready[name] = address
            await self._put(name, address, ready=True)

    async def churn(self, rate: float, seconds: float) -> None:
        """So many changes a second."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        target = len(self._ready) + len(self._unready)
        before = self.changes
        while (passed := loop.time() - begun) < seconds:
            while self.changes - before < passed * rate:
                await self._change(target)
            await asyncio.sleep(0.005)

    async def _change(self, target: int) -> None:
        if len(self._ready) + len(self._unready) < target:
            await self.make(1)
        elif self._unready and self._dice.random() < 0.5:
            name = self._dice.choice(tuple(self._unready))
            self._ready[name] = self._unready.pop(name)
            await self._put(name, self._ready[name], ready=True)
        else:
            name = self._dice.choice(tuple(self._ready))
            address = self._ready.pop(name)
            what = self._dice.random()
            if what < 0.4:
                self._unready[name] = address
                await self._put(name, address, ready=False)
            elif what < 0.8:
                await self._put(name, address, ready=True, ending=True)
                self._after(GRACE_SECONDS, name, address)
            else:
                self._kill(address)
                self._after(CRASH_NEWS_SECONDS, name, address)

    def _after(self, seconds: float, name: str, address: str) -> None:
        def end() -> None:
            self._later.discard(handle)
            self._kill(address)
            self.changes += 1
            task = loop.create_task(self._api.delete(a_pod(name, namespace=NAMESPACE)))
            task.add_done_callback(lambda done: done.result())

        loop = asyncio.get_running_loop()
        handle = loop.call_later(seconds, end)
        self._later.add(handle)

    def _kill(self, address: str) -> None:
        assert self._engine.stdin is not None
        self._engine.stdin.write(f"dead {address}\n".encode())

    async def _put(self, name: str, address: str, *, ready: bool, ending: bool = False) -> None:
        self.changes += 1
        pod = a_pod(name, address, ready=ready, labels=self._labels, namespace=NAMESPACE)
        if ending:
            pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:30Z"
        await self._api.put(pod)


def address_of(number: int) -> str:
    """A loopback address for each pod that ever is."""
    return f"127.9.{number // 250}.{number % 250 + 1}"


class Rig:
    """Envoy, `serve --kubernetes`, and how to read their state."""

    def __init__(self, spec: EnvoySpec, serve: Started, envoy: Started, admin: str) -> None:
        self.port = spec.listen.port
        self._serve, self._envoy, self._admin = serve, envoy, admin
        self.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60))

    async def until_ready(self, seconds: float) -> None:
        """Wait for /readyz."""
        async with asyncio.timeout(seconds):
            while True:
                self._serve.check()
                with contextlib.suppress(aiohttp.ClientError):
                    async with self.session.get(f"{self._admin}/readyz") as reply:
                        if reply.status == 200:
                            return
                await asyncio.sleep(0.02)

    async def late(self) -> dict[float, int]:
        """The event loop's delays, cumulated by bound."""
        async with self.session.get(f"{self._admin}/metrics") as reply:
            lines = [one for one in (await reply.text()).splitlines() if "loop_delay_seconds_bucket" in one]
        found = (one.partition('le="')[2].partition('"} ') for one in lines)
        return {float(bound): round(float(count)) for bound, _, count in found}

    def used(self) -> tuple[float, int]:
        """CPU seconds and resident bytes of `serve` so far."""
        self._serve.check()
        self._envoy.check()
        now = usage((self._serve.pid,))
        return now.cpu_seconds, now.rss_bytes


@contextlib.asynccontextmanager
async def rigged(envoy: Path, kubeconfig: Path, directory: Path, engine_port: int, pods: int) -> AsyncIterator[Rig]:
    """Everything that is measured."""
    admin_port, processor_port = free_port(), free_port()
    spec = EnvoySpec(
        listen=SocketAddress(LOOPBACK, free_port()), admin=SocketAddress(LOOPBACK, free_port()),
        processors=(SocketAddress(LOOPBACK, processor_port),), endpoints_directory=directory,
    )  # fmt: skip
    addresses = tuple(f"{address_of(number)}:{engine_port}" for number in range(4 * pods))
    write_atomically(spec.endpoints_file, render_endpoints(addresses))
    bootstrap = directory / "envoy.json"
    write_atomically(bootstrap, json.dumps(configuration(spec)).encode())
    options = ("--kubernetes", "--kubeconfig", str(kubeconfig), "--namespace", NAMESPACE, "--api-key", API_KEY)
    ports = ("--port", str(processor_port), "--admin-port", str(admin_port))
    with contextlib.ExitStack() as stack:
        arguments = (sys.executable, "-m", "aibrix_extproc", "serve", *ports, *options)
        serve = Started("serve", arguments, directory / "serve.log")
        stack.callback(serve.stop)
        proxy = Started("Envoy", command(envoy, bootstrap, concurrency=1), directory / "envoy.log")
        stack.callback(proxy.stop)
        rig = Rig(spec, serve, proxy, f"http://{LOOPBACK}:{admin_port}")
        try:
            yield rig
        finally:
            await rig.session.close()


async def window(rig: Rig, world: World, title: str, seconds: float, rate: float, changes: float) -> Window:
    """Load, and churn beside it, for a while."""
    crowd = SoakCrowd(rig.port, seed=1)
    before_late, (before_cpu, _), before_changes = await rig.late(), rig.used(), world.changes
    begun = time.perf_counter()
    jobs = [world.churn(changes, seconds)] if changes else []
    await asyncio.gather(_ask(crowd, rate, seconds), *jobs)
    spent = time.perf_counter() - begun
    cpu, rss = rig.used()
    await crowd.finish(10.0)
    late = {bound: count - before_late.get(bound, 0) for bound, count in (await rig.late()).items()}
    done = crowd.tally.done.total()
    failures = tuple(crowd.tally.errors) + (("requests that never ended",) if crowd.running else ())
    return Window(title, spent, done, world.changes - before_changes, failures, (cpu - before_cpu) / spent, rss, late)


async def _ask(crowd: SoakCrowd, rate: float, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    begun, sent = loop.time(), 0
    while (passed := loop.time() - begun) < seconds:
        while sent < passed * rate:
            sent += 1
            crowd.begin(Kind.CHAT)
        await asyncio.sleep(0.005)


async def run(args: argparse.Namespace, envoy: Path) -> Result:
    """The whole of it."""
    result = Result(args.pods)
    with tempfile.TemporaryDirectory(prefix="churn-") as name:
        directory = Path(name)
        engine_port = free_port()
        command_ = (sys.executable, "-m", "benchmarks.churn_engine", str(engine_port))
        engine = await asyncio.create_subprocess_exec(*command_, stdin=asyncio.subprocess.PIPE)
        try:
            async with KubeApiDouble() as api:
                world = World(api, engine, engine_port, args.seed)
                await world.make(args.pods)
                begun = time.perf_counter()
                kubeconfig = api.kubeconfig(directory, namespace=NAMESPACE)
                async with rigged(envoy, kubeconfig, directory, engine_port, args.pods) as rig:
                    await rig.until_ready(60)
                    result.ready_seconds = time.perf_counter() - begun
                    say(f"ready with {args.pods} pods after {result.ready_seconds:.2f} s")
                    await _until_served(rig)
                    for title, seconds, changes in (
                        ("no changes", args.seconds / 3, 0.0),
                        (f"{args.changes:g} changes a second", args.seconds, args.changes),
                    ):
                        result.windows.append(await window(rig, world, title, seconds, args.rate, changes))
                        say(described(result.windows[-1]))
                    await asyncio.sleep(2 * GRACE_SECONDS)
                    await api.stop()
                    result.windows.append(await window(rig, world, "no API server", args.outage, args.rate, 0.0))
                    say(described(result.windows[-1]))
                    await api.start()
        finally:
            engine.kill()
            await engine.wait()
    return result


async def _until_served(rig: Rig) -> None:
    async with asyncio.timeout(120):
        while True:
            crowd = SoakCrowd(rig.port, seed=1)
            crowd.begin(Kind.CHAT)
            await crowd.finish(5.0)
            if not crowd.tally.errors:
                return
            await asyncio.sleep(0.1)


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr)


def described(one: Window) -> str:
    """One line of progress."""
    return (
        f"{one.title}: {one.requests} requests, {len(one.failures)} failed, {one.changes} changes,"
        f" {one.core_share:.1%} of a core, {one.rss_bytes / _MIB:.0f} MiB, loop late: {lateness(one)}"
        + (f"; the first failure: {one.failures[0]}" if one.failures else "")
    )


def lateness(one: Window) -> str:
    """The smallest bound that holds all checks, and how many were above 20 ms."""
    total = max(one.late.values(), default=0)
    bound = min((bound for bound, count in one.late.items() if count == total), default=0.0)
    above = total - one.late.get(0.02, total)
    return f"at most {bound * 1000:g} ms, {above} of {total} checks above 20 ms"


def page(result: Result, args: argparse.Namespace) -> str:
    """The report."""
    rows = "\n".join(
        f"| {one.title} | {one.seconds:.0f} | {one.requests:,} | {len(one.failures)} | {one.changes:,} |"
        f" {one.core_share:.1%} | {one.rss_bytes / _MIB:.0f} | {lateness(one)} |"
        for one in result.windows
    )
    still, churned = result.windows[0], result.windows[1]
    return f"""<!-- Written by `make churn`. Do not edit. -->

# Churn

{result.pods:,} pods, {args.rate:g} requests a second through a real Envoy, {os.cpu_count()} cores for everything;
{datetime.datetime.now(datetime.UTC).date()}. Pods turn ready and not ready, are deleted (and end
{GRACE_SECONDS:g} s later), crash, and are made anew. From its start, `serve` was ready after
{result.ready_seconds:.2f} s.

| time | seconds | requests | failed | changes | CPU of `serve` | MiB | event loop |
| --- | --- | --- | --- | --- | --- | --- | --- |
{rows}

CPU holds requests, polls every engine each two seconds, and the watch. The changes alone took
{churned.core_share - still.core_share:.1%} of a core.
"""


def main() -> int:
    """Run and report; 1 if a request failed, 2 if it could not be done."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.churn", description=__doc__)
    parser.add_argument("--pods", type=int, default=1000)
    parser.add_argument("--changes", type=float, default=50.0, help="a second (default: 50)")
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second (default: 200)")
    parser.add_argument("--seconds", type=float, default=60.0, help="of churn (default: 60)")
    parser.add_argument("--outage", type=float, default=300.0, help="seconds without an API server (default: 300)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=PAGE, help=f"where the page goes (default: {PAGE})")
    args = parser.parse_args()
    try:
        result = uvloop.run(run(args, find_envoy(None)))
    except (EnvoyNotFoundError, RuntimeError, TimeoutError) as error:
        print(f"churn: {error!r}", file=sys.stderr)
        return 2
    args.output.write_text(page(result, args), encoding="utf-8")
    return 1 if any(one.failures for one in result.windows) else 0


if __name__ == "__main__":
    sys.exit(main())
