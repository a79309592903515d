"""Keep one child process running: start it, see it become ready, restart it when it dies, stop it for good.

Independent of what the child does. A child gets its own session, so Ctrl-C in a terminal reaches only the parent,
and dies with the parent even when that is killed (`launch.py`); the event loop must run in the main thread for that.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

FIRST_DELAY = 0.5
LONGEST_DELAY = 30.0
STABLE_AFTER = 60.0  # a child that lived this long starts again with no delay
_PROBE_INTERVAL = 0.05


class ChildState(StrEnum):
    """What just happened to a child."""

    STARTED = "started"
    READY = "ready"
    DIED = "died"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class ChildEvent:
    """One change of a child's state."""

    name: str
    state: ChildState
    detail: str = ""
    restart_in: float = 0.0  # seconds, for DIED


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """A process to keep running; `is_ready` is asked again and again until it says yes."""

    name: str
    command: tuple[str, ...]
    log: Path
    is_ready: Callable[[], Awaitable[bool]] | None = None
    stop_grace: float = 10.0  # seconds between SIGTERM and SIGKILL
    environment: Mapping[str, str] | None = None  # None: ours


class ChildFailedError(Exception):
    """A child that died, or was not ready in time, before it was ever ready."""


def restart_delay(deaths: int) -> float:
    """Seconds to wait after this many deaths in a row: none after the first, then doubling up to the longest."""
    return 0.0 if deaths <= 1 else min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(deaths - 2, 16))


def exit_reason(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"exited with code {code}"
    with contextlib.suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"


class Child:
    """One supervised process. `run` supervises until `stop`; it is meant to be a task of its own."""

    def __init__(self, spec: ChildSpec, report: Callable[[ChildEvent], None]) -> None:
        self._spec = spec
        self._report = report
        self._process: asyncio.subprocess.Process | None = None
        self._deaths = 0
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._ended.set()  # until `run` begins there is nothing to wait for
        self._last_exit = ""
        self._ever_ready = False
        self._first_outcome = asyncio.Event()  # it was ready, or it died

    @property
    def name(self) -> str:
        """The name that its events carry."""
        return self._spec.name

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process else None

    async def run(self) -> None:
        """Start the child, and start it again whenever it dies, until `stop` is called."""
        self._ended.clear()
        try:
            while not self._stopping.is_set():
                await self._live_once()
        finally:
            self._kill()
            self._ended.set()

    async def wait_ready(self, within: float) -> None:
        """Return once the child was ready for the first time; ChildFailedError if it died before or is too slow."""
        try:
            await asyncio.wait_for(self._first_outcome.wait(), within)
            what = f"{self._last_exit} while it was starting"
        except TimeoutError:
            what = f"was not ready within {within:g} s"
        if not self._ever_ready:
            raise ChildFailedError(f"{self.name} {what}: {self._last_words()} (log: {self._spec.log})")

    async def stop(self) -> None:
        """End the child and do not start it again: SIGTERM, then SIGKILL after the grace time."""
        self._stopping.set()
        if self.pid is not None and self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
        try:
            await asyncio.wait_for(self._ended.wait(), self._spec.stop_grace)
        except TimeoutError:
            self._kill()
            await self._ended.wait()

    async def _live_once(self) -> None:
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        process = await self._start()
        self._tell(ChildState.STARTED)
        if self._stopping.is_set():  # stopped while it was being started: `stop` has found no process to signal
            process.terminate()
        async with asyncio.TaskGroup() as group:
            probing = group.create_task(self._probe())
            code = await process.wait()
            probing.cancel()
        self._last_exit = exit_reason(code)
        if self._stopping.is_set():
            self._tell(ChildState.STOPPED, self._last_exit)
            return
        self._first_outcome.set()
        self._deaths = 1 if loop.time() - started_at >= STABLE_AFTER else self._deaths + 1
        delay = restart_delay(self._deaths)
        self._tell(ChildState.DIED, self._last_exit, delay)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), delay)

    async def _start(self) -> asyncio.subprocess.Process:
        how = "signal" if sys.platform == "linux" else "watch"
        launcher = Path(__file__).with_name("launch.py")
        with self._spec.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", str(launcher), str(os.getpid()), how, *self._spec.command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=self._spec.environment,
            )
        return self._process

    async def _probe(self) -> None:
        is_ready = self._spec.is_ready
        while is_ready is not None and not await is_ready():  # noqa: ASYNC110 - another process sets no event
            await asyncio.sleep(_PROBE_INTERVAL)
        self._ever_ready = True
        self._first_outcome.set()
        self._tell(ChildState.READY)

    def _tell(self, state: ChildState, detail: str = "", restart_in: float = 0.0) -> None:
        self._report(ChildEvent(self.name, state, detail, restart_in))

    def _kill(self) -> None:
        if self.pid is not None and self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    def _last_words(self) -> str:
        try:
            lines = self._spec.log.read_text(errors="replace").strip().splitlines()
        except OSError:
            lines = []
        return lines[-1][:300] if lines else "it said nothing"
