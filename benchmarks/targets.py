"""What is compared: Envoy alone, and Envoy before each ext_proc server. A further server is one row of TARGETS."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp

from aibrix_extproc.adapters.envoyproxy.configure import command, configuration
from aibrix_extproc.adapters.envoyproxy.endpoints import render_endpoints
from aibrix_extproc.adapters.envoyproxy.spec import STREAM_FILTER, EnvoySpec, SocketAddress
from aibrix_extproc.config_files.replacing import write_atomically
from benchmarks.keys import BARE, BARE_H2, BARE_LEAN, LEAN, METERED, METERED_REFERENCE, PLAIN, REFERENCE
from benchmarks.plain_envoy import without_processor
from benchmarks.processes import LOOPBACK, Started, free_port, tree
from benchmarks.wire import API_KEY, MODEL

Addresses = tuple[str, ...]
METERED_SPEC: Final[Mapping[str, Any]] = {"stream_filter": STREAM_FILTER, "access_log_service": True}  # as in `local`


@dataclass(frozen=True, slots=True)
class Target:
    """One row: `processor` gives the command of its ext_proc server for a port and engines, None for Envoy alone."""

    key: str
    title: str
    processor: Callable[[int, Addresses], Sequence[str]] | None
    ours: bool = False  # this project's, compared with the figures to reach
    spec_options: Mapping[str, Any] = field(default_factory=dict)  # further fields of its Envoy's EnvoySpec


def _bare(*options: str) -> Callable[[int, Addresses], Sequence[str]]:
    def build(port: int, engines: Addresses) -> Sequence[str]:
        place = ("--port", str(port), "--destination", ",".join(engines))
        return (sys.executable, "-m", "benchmarks.bare_server", *place, *options)

    return build


def _ours(*options: str) -> Callable[[int, Addresses], Sequence[str]]:
    def build(port: int, engines: Addresses) -> Sequence[str]:
        return serve_command(port, free_port(), engines, *options)

    return build


def serve_command(port: int, admin_port: int, engines: Addresses, *options: str) -> Sequence[str]:
    """Our gateway over these engines."""
    endpoints = [part for engine in engines for part in ("--endpoint", f"http://{engine}={MODEL}")]
    ports = ("--port", str(port), "--admin-port", str(admin_port), "--api-key", API_KEY)
    return (sys.executable, "-m", "aibrix_extproc", "serve", *ports, *endpoints, *options)


TARGETS: Final[dict[str, Target]] = {
    target.key: target
    for target in (
        Target(PLAIN, "Envoy alone", None),
        Target(BARE, "bare grpc.aio server", _bare()),
        Target("bare-parse", "bare grpc.aio server that parses", _bare("--parse")),
        Target(BARE_H2, "bare server on the h2 library", _bare("--transport", "h2")),
        Target(BARE_LEAN, "bare server on the lean transport's frames", _bare("--transport", "lean")),
        Target(REFERENCE, "aibrix-extproc (grpcio)", _ours("--transport", "grpcio"), ours=True),
        Target(LEAN, "aibrix-extproc (lean)", _ours("--transport", "lean"), ours=True),
        Target(
            METERED_REFERENCE, "aibrix-extproc (grpcio, metered)", _ours("--transport", "grpcio", "--metering"),
            ours=True, spec_options=METERED_SPEC,
        ),
        Target(
            METERED, "aibrix-extproc (lean, metered)", _ours("--transport", "lean", "--metering"),
            ours=True, spec_options=METERED_SPEC,
        ),
    )
}  # fmt: skip
DEFAULT_TARGETS: Final = (PLAIN, BARE, BARE_H2, BARE_LEAN, REFERENCE, METERED_REFERENCE, LEAN, METERED)


class Running:
    """An Envoy with its ext_proc server, ready for load."""

    def __init__(
        self,
        target: Target,
        engines: Addresses,
        envoy: Path,
        envoy_workers: int,
        directory: Path,
    ) -> None:
        self.target = target
        processor_port = free_port()
        self._spec = EnvoySpec(
            listen=SocketAddress(LOOPBACK, free_port()),
            admin=SocketAddress(LOOPBACK, free_port()),
            processors=(SocketAddress(LOOPBACK, processor_port),),
            endpoints_directory=directory,
            **target.spec_options,
        )
        write_atomically(self._spec.endpoints_file, render_endpoints(engines))
        shipped = configuration(self._spec)
        bootstrap = shipped if target.processor else without_processor(shipped)
        path = directory / "envoy.json"
        write_atomically(path, json.dumps(bootstrap).encode())
        self._children: dict[str, Started] = {}
        try:
            if target.processor:
                arguments = target.processor(processor_port, engines)
                self._children["ext_proc"] = Started(f"{target.key}'s server", arguments, directory / "ext_proc.log")
            run_envoy = command(envoy, path, concurrency=envoy_workers)
            self._children["envoy"] = Started(f"{target.key}'s Envoy", run_envoy, directory / "envoy.log")
        except BaseException:
            self.stop()
            raise

    @property
    def port(self) -> int:
        """Where clients connect."""
        return self._spec.listen.port

    def watched(self) -> dict[str, tuple[int, ...]]:
        """The processes of each part by name."""
        return {name: tree(child.pid) for name, child in self._children.items()}

    async def is_ready(self, session: aiohttp.ClientSession) -> bool:
        """Whether Envoy and the server serve; raises if one has died."""
        self.check()
        try:
            async with session.get(f"http://{self._spec.admin}/ready") as reply:
                live = (await reply.text()).strip() == "LIVE"
            return live and (self.target.processor is None or await self._has_processor(session))
        except aiohttp.ClientError:
            return False

    async def _has_processor(self, session: aiohttp.ClientSession) -> bool:
        found = await self.stats(session, "cluster.processors.membership_healthy")
        return sum(found.values()) > 0

    async def messages(self, session: aiohttp.ClientSession) -> tuple[int, int]:
        """ext_proc streams that were started and messages sent in both directions, since Envoy's start."""
        found = await self.stats(session, "ext_proc")
        counts = {name.rpartition(".")[2]: value for name, value in found.items()}
        sent, received = counts.get("stream_msgs_sent", 0), counts.get("stream_msgs_received", 0)
        return counts.get("streams_started", 0), max(sent, received)

    async def stats(self, session: aiohttp.ClientSession, pattern: str) -> dict[str, int]:
        """Envoy's counters and gauges whose names match."""
        async with session.get(f"http://{self._spec.admin}/stats", params={"filter": pattern}) as reply:
            lines = (await reply.text()).splitlines()
        pairs = (line.rpartition(": ") for line in lines)
        return {name: int(value) for name, _, value in pairs if value.isdigit()}

    def check(self) -> None:
        """Raise if a process has died."""
        for child in self._children.values():
            child.check()

    def logs(self) -> str:
        """The last words of every process."""
        return "\n".join(f"--- {child.name}\n{child.last_words()}" for child in self._children.values())

    def stop(self) -> None:
        """End Envoy first, so that it misses no server."""
        for child in reversed(self._children.values()):
            child.stop()
