"""`aibrix-extproc local`: Envoy, gateway workers and engines on this machine behind one OpenAI base URL.

The composition root of that command. It restarts a process that dies, and ends all of them when it stops;
if this process itself is killed, its children die with it.
"""

import argparse
import asyncio
import contextlib
import json
import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TextIO

import aiohttp

from aibrix_extproc.adapters.envoyproxy.endpoints import render_endpoints
from aibrix_extproc.adapters.envoyproxy.spec import ENDPOINTS_FILE
from aibrix_extproc.adapters.envoyproxy.supervise import Child, ChildEvent, ChildFailedError, ChildSpec, ChildState
from aibrix_extproc.adapters.fleetfile.source import FleetFile
from aibrix_extproc.app.descriptors import raise_descriptor_limit
from aibrix_extproc.app.local import children as local_children
from aibrix_extproc.app.local import screen as local_screen
from aibrix_extproc.app.local import view as local_view
from aibrix_extproc.app.local.checks import TASKS
from aibrix_extproc.app.local.errors import EXIT_USAGE, LocalError
from aibrix_extproc.app.local.plan import DEFAULT_ENGINES, DEFAULT_MODEL, Plan, make_plan
from aibrix_extproc.app.local.ports import LOOPBACK
from aibrix_extproc.app.local.secrets import forget_admin_key
from aibrix_extproc.config_files.file import SourceStatus
from aibrix_extproc.config_files.replacing import write_atomically
from aibrix_extproc.core.fleet.model import Health
from aibrix_extproc.core.fleet.reduce import Listed, SourceChange

START_SECONDS = 60.0  # for a child to become ready, on a slow machine that starts many at once
MOST_PROCESSES = 256  # of a kind; more is a slip of the finger
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `local`; without any, two simulated engines serve one model on port 8080."""
    parser.formatter_class = argparse.HelpFormatter  # the texts below say what happens without an option
    add = parser.add_argument_group("engines (simulated ones, or --engine, or --fleet)").add_argument
    add("--model", action="append", type=_name, metavar="NAME[=TASK]", default=None,
        help=f"model served by simulated engines, repeatable ({DEFAULT_MODEL} if not given); a task is one of "
        f"{', '.join(TASKS)} (chat if not given), as in --model vectors=embed")  # fmt: skip
    add("--engines", type=_positive, metavar="N", default=None,
        help=f"simulated engines for each model ({DEFAULT_ENGINES} if not given)")  # fmt: skip
    add("--prefill-engines", type=_positive, metavar="N", default=None,
        help="further simulated engines for each chat model, which compute prompts for the others "
        "(docs/disaggregation.md)")  # fmt: skip
    add("--simulate", type=_options, metavar="OPTIONS", default=None,
        help="options for each simulated engine, as in --simulate='--itl-ms 20' (see simulate --help)")  # fmt: skip
    add("--engine", action="append", metavar="URL", default=None,
        help="a running vLLM as http://HOST:PORT, repeatable; its models are discovered")  # fmt: skip
    add("--engine-api-key", metavar="KEY", default=None, help="key that the engines named with --engine want")
    add("--fleet", type=Path, metavar="FILE", default=None, help="fleet file with endpoints, followed when it changes")

    add = parser.add_argument_group("addresses").add_argument
    add("--host", default=LOOPBACK, metavar="IP", help="address that clients connect to (%(default)s)")
    add("--port", type=_port, default=8080, metavar="PORT",
        help="port that clients connect to, 0 for any free one (%(default)s)")  # fmt: skip
    add("--admin-port", "--gateway-admin-port", dest="admin_port", type=_port, metavar="PORT", default=None,
        help="the first gateway worker's admin port, as in `serve`; further workers take the ports after it "
        "(free ones if not given)")  # fmt: skip
    add("--envoy-admin-port", type=_port, metavar="PORT", default=0,
        help="Envoy's admin port (a free one if not given)")  # fmt: skip

    add = parser.add_argument_group("gateway").add_argument
    add("--api-key", action="append", metavar="KEY", default=None, help="accept only this key, repeatable")
    add(
        "--key-file",
        type=Path,
        metavar="FILE",
        default=None,
        help="accept only the keys of this file (see keys --help)",
    )
    add("--workers", type=_positive, default=1, metavar="N", help="ext_proc processes (%(default)s)")
    add("--config", type=Path, metavar="FILE", default=None, help="settings file for the workers (see config --help)")
    add("--envoy", metavar="PATH", default=None, help="Envoy to use instead of the installed one")
    add("--data", type=Path, metavar="DIR", default=None,
        help="keep files, uploads and batches here (else they go with --run-dir)")  # fmt: skip
    add("--no-metadata", action="store_true", help="leave out the service of files, uploads and batches")
    add("--run-dir", type=Path, metavar="DIR", default=None,
        help="keep configuration and logs here (a temporary directory)")  # fmt: skip
    add("--json", action="store_true",
        help="when all is ready, print addresses as one line of JSON; all else goes to standard error")  # fmt: skip
    add("--log-dir", type=Path, metavar="DIR", default=None, help="keep logs here (RUN_DIR/logs)")


def run(args: argparse.Namespace) -> int:
    """Run until SIGINT or SIGTERM; 0 then, 1 if something cannot be started, 2 for options that cannot be used."""
    directory = args.run_dir.absolute() if args.run_dir else Path(tempfile.mkdtemp(prefix="aibrix-extproc-"))
    is_worth_keeping = args.run_dir is not None
    try:
        # A reader of JSON needs nothing else on standard output.
        with contextlib.redirect_stdout(sys.stderr) if args.json else contextlib.nullcontext():
            asyncio.run(_run(args, directory))
    except LocalError as error:
        print(f"aibrix-extproc: {error}", file=sys.stderr, flush=True)
        is_worth_keeping |= any((directory / "logs").glob("*"))
        return error.exit_code
    finally:
        if not is_worth_keeping:
            shutil.rmtree(directory, ignore_errors=True)
    return 0


async def _run(args: argparse.Namespace, directory: Path) -> None:
    raise_descriptor_limit()  # Envoy takes it over: it has a descriptor for each client and each request
    stop = asyncio.Event()
    for number in STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    plan = make_plan(args, directory)
    async with aiohttp.ClientSession() as session:
        await Local(plan, session, stop, as_json=args.json).run()


class Local:
    """Everything that runs, from the first start to the last stop."""

    def __init__(
        self, plan: Plan, session: aiohttp.ClientSession, stop: asyncio.Event, *, as_json: bool = False
    ) -> None:
        self._plan = plan
        self._json = as_json
        self._out = sys.__stdout__ or sys.stdout
        self._session = session
        self._stop = stop
        self._started_at = time.monotonic()
        self._children: dict[str, Child] = {}
        self._logs: dict[str, Path] = {}
        self._ready: set[str] = set()
        self._fleet = FleetFile(plan.fleet, self._on_fleet_status)
        self._fleet_read = asyncio.Event()

    async def run(self) -> None:
        """Start all, serve until stopped, stop all; LocalError if something cannot be started."""
        failure: LocalError | None = None
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(self._fleet.run(self._on_fleet))
            try:
                await self._unless_stopped(self._start(tasks))
                await self._stop.wait()
                _say("Stopping.")
            except LocalError as error:
                failure = error
            finally:
                await asyncio.gather(*(child.stop() for child in self._children.values()))
                forget_admin_key(self._plan.listen.port)
                following.cancel()
        if failure is not None:
            raise failure

    async def _unless_stopped(self, work: Coroutine[Any, Any, None]) -> None:
        working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
        finally:
            working.cancel()
            stopping.cancel()

    async def _start(self, tasks: asyncio.TaskGroup) -> None:
        plan, session = self._plan, self._session
        await self._check_given_engines()
        await self._check_fleet()
        _say(local_screen.starting(plan))
        for engine in plan.simulated:
            self._supervise(local_children.simulated_engine(engine, plan, session), tasks)
        for worker in plan.workers:
            self._supervise(local_children.gateway_worker(worker, plan, session), tasks)
        if plan.metadata is not None:
            self._supervise(local_children.metadata_service(plan.metadata, plan, session), tasks)
        # In a thread: building it takes a second, in which the others already start.
        self._supervise(await asyncio.to_thread(local_children.envoy, plan, session), tasks)
        try:
            await asyncio.gather(*(child.wait_ready(START_SECONDS) for child in self._children.values()))
        except ChildFailedError as error:
            raise LocalError(f"{error}.") from error
        await self._show_screen()

    def _supervise(self, spec: ChildSpec, tasks: asyncio.TaskGroup) -> None:
        self._logs[spec.name] = spec.log
        self._children[spec.name] = Child(spec, self._on_child)
        tasks.create_task(self._children[spec.name].run())

    async def _check_given_engines(self) -> None:
        """Fail if none of the engines that were named can be reached; those that can are enough to start."""
        addresses = self._plan.engine_addresses
        failures = await asyncio.gather(*(local_view.reach(self._session, address) for address in addresses))
        sentences = [
            f"The engine http://{address} cannot be reached: {failure}."
            for address, failure in zip(addresses, failures, strict=True)
            if failure
        ]
        if addresses and len(sentences) == len(addresses):
            raise LocalError(" ".join(sentences))
        for sentence in sentences:
            _say(f"  ! {sentence}")

    async def _check_fleet(self) -> None:
        await self._fleet_read.wait()
        if not self._fleet.status.ok:
            raise LocalError(f"{self._fleet.status.error}.", EXIT_USAGE)

    async def _show_screen(self) -> None:
        plan = self._plan
        endpoints = await local_view.settled_endpoints(self._session, plan)
        models = await local_view.listed_models(self._session, plan, endpoints)
        warnings = [
            local_screen.warning(one.address, one.health, one.detail) for one in endpoints if one.health != Health.READY
        ]
        if self._json:
            _say(json.dumps(local_screen.addresses(plan, models)), self._out)
            return
        _say("")
        tasks = {model: one.tasks for one in endpoints for model in one.models}
        seconds = time.monotonic() - self._started_at
        _say(local_screen.screen(plan, models, warnings, seconds, tasks, _program()))

    def _on_child(self, event: ChildEvent) -> None:
        was_ready = event.name in self._ready
        line = local_screen.child_line(event, was_ready=was_ready, log=self._logs[event.name])
        if event.state is ChildState.READY:
            self._ready.add(event.name)
        if line:
            _say(f"  {line}" if not was_ready else f"{time.strftime('%H:%M:%S')} {line}")

    def _on_fleet(self, change: SourceChange) -> None:
        if isinstance(change, Listed):
            path = self._plan.directories.endpoints / ENDPOINTS_FILE
            write_atomically(path, render_endpoints(endpoint.address for endpoint in change.endpoints))
            if self._fleet_read.is_set():
                _say(f"{time.strftime('%H:%M:%S')} The fleet file was read again: {len(change.endpoints)} endpoints")
            self._fleet_read.set()

    def _on_fleet_status(self, status: SourceStatus) -> None:
        if not status.ok and self._fleet_read.is_set():
            _say(f"{time.strftime('%H:%M:%S')} {status.error}; the last good fleet stays in use")
        if not status.ok:
            self._fleet_read.set()


def _program() -> str:
    """Our command as the user can type it: by its name if the shell finds this one, else by its place."""
    name = "aibrix-extproc"
    beside = Path(sys.executable).parent / name
    found = shutil.which(name)
    if not beside.exists() or (found is not None and os.path.samefile(found, beside)):
        return name
    return os.path.relpath(beside) if beside.is_relative_to(Path.cwd()) else str(beside)


def _say(text: str, file: TextIO | None = None) -> None:
    try:
        print(text, file=file, flush=True)
    except OSError:  # the reader is gone: a closed terminal, a pipe that Ctrl-C ended; that is no failure of ours
        os.dup2(os.open(os.devnull, os.O_WRONLY), (file or sys.stdout).fileno())


def _name(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("must not be empty")
    return text


def _options(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error} in {text!r}") from error


def _positive(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_PROCESSES:
        raise argparse.ArgumentTypeError(f"must be a number from 1 to {MOST_PROCESSES}, not {text!r}")
    return int(text)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"must be a port, 0 to 65535, not {text!r}")
    return int(text)
