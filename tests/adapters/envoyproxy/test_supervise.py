"""Real child processes that die, hang and are left behind."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from aibrix_extproc.adapters.envoyproxy import launch, supervise
from aibrix_extproc.adapters.envoyproxy.supervise import (
    Child,
    ChildEvent,
    ChildFailedError,
    ChildSpec,
    ChildState,
    exit_reason,
    restart_delay,
)
from tests.waiting import until

pytestmark = pytest.mark.slow

SLEEPER = "import time; time.sleep(60)"
STUBBORN = (
    "import signal, time, pathlib, sys\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "pathlib.Path(sys.argv[1]).touch()\n"
    "time.sleep(60)"
)
# Starts a sleeping child through the launcher, says its pid, and waits to be killed.
PARENT = (
    "import os, subprocess, sys, time\n"
    "child = subprocess.Popen([sys.executable, sys.argv[1], str(os.getpid()), sys.argv[2],"
    " sys.executable, '-c', 'import os, time; print(os.getpid(), flush=True); time.sleep(60)'])\n"
    "time.sleep(60)"
)


class Watched:
    """A running child and what it reported."""

    def __init__(self, child: Child, events: list[ChildEvent]) -> None:
        self.child = child
        self.events = events

    def states(self) -> list[ChildState]:
        return [event.state for event in self.events]

    async def until(self, *states: ChildState) -> None:
        await until(lambda: self.states() == list(states), lambda: f"{states}, got {self.events}")


@contextlib.asynccontextmanager
async def watched(
    tmp_path: Path, code: str, *arguments: str, is_ready: Callable[[], bool] = lambda: True, stop_grace: float = 10.0
) -> AsyncIterator[Watched]:
    async def probe() -> bool:
        return is_ready()

    command = (sys.executable, "-c", code, *arguments)
    events: list[ChildEvent] = []
    child = Child(ChildSpec("sleeper", command, tmp_path / "log", probe, stop_grace), events.append)
    async with asyncio.TaskGroup() as group:
        group.create_task(child.run())
        try:
            yield Watched(child, events)
        finally:
            await child.stop()


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_child_killed_from_outside_starts_again_at_once(tmp_path: Path) -> None:
    async with watched(tmp_path, SLEEPER) as one:
        await one.until(ChildState.STARTED, ChildState.READY)
        first = one.child.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await one.until(ChildState.STARTED, ChildState.READY, ChildState.DIED, ChildState.STARTED, ChildState.READY)
        died = one.events[2]
        assert (died.detail, died.restart_in) == ("was ended by SIGKILL", 0.0)
        assert one.child.pid not in (None, first)


async def test_stopped_child_ends_and_stays_ended(tmp_path: Path) -> None:
    async with watched(tmp_path, SLEEPER) as one:
        await one.until(ChildState.STARTED, ChildState.READY)
        pid = one.child.pid
        assert pid is not None
        await one.child.stop()
        assert one.states()[-1] is ChildState.STOPPED
        assert one.child.pid is None
        assert not is_running(pid)


async def test_child_that_ignores_sigterm_is_killed_after_its_grace(tmp_path: Path) -> None:
    marker = tmp_path / "deaf"
    async with watched(tmp_path, STUBBORN, str(marker), is_ready=marker.exists, stop_grace=0.2) as one:
        await one.until(ChildState.STARTED, ChildState.READY)
        await one.child.stop()
        assert one.events[-1].detail == "was ended by SIGKILL"


async def test_stop_between_two_lives_does_not_wait_for_the_delay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervise, "restart_delay", lambda deaths: 600.0)
    async with watched(tmp_path, "raise SystemExit(3)", is_ready=lambda: False) as one:
        await until(lambda: one.events and one.events[-1].restart_in == 600.0, "a delay of ten minutes")
        async with asyncio.timeout(60):
            await one.child.stop()


async def test_child_that_dies_while_starting_is_reported_with_its_last_words(tmp_path: Path) -> None:
    code = "import sys; print('port 80 is taken', file=sys.stderr); sys.exit(3)"
    async with watched(tmp_path, code, is_ready=lambda: False) as one:
        with pytest.raises(
            ChildFailedError, match="sleeper exited with code 3 while it was starting: port 80 is taken"
        ):
            await one.child.wait_ready(60)


async def test_child_that_is_never_ready_is_reported(tmp_path: Path) -> None:
    async with watched(tmp_path, SLEEPER, is_ready=lambda: False) as one:
        with pytest.raises(ChildFailedError, match=r"not ready within 0\.1 s"):
            await one.child.wait_ready(0.1)


async def test_command_that_does_not_exist_is_reported(tmp_path: Path) -> None:
    spec = ChildSpec("ghost", (str(tmp_path / "nothing"),), tmp_path / "log", never)
    child = Child(spec, lambda event: None)
    async with asyncio.TaskGroup() as group:
        group.create_task(child.run())
        with pytest.raises(ChildFailedError, match=r"ghost .*cannot run .*nothing: No such file"):
            await child.wait_ready(60)
        await child.stop()


async def never() -> bool:
    return False


async def test_child_does_not_hear_the_terminals_interrupt(tmp_path: Path) -> None:
    async with watched(tmp_path, SLEEPER) as one:
        await one.until(ChildState.STARTED, ChildState.READY)
        assert one.child.pid is not None
        assert os.getpgid(one.child.pid) != os.getpgid(0)


@pytest.mark.parametrize("how", ["signal", "watch"])
async def test_child_dies_with_a_parent_that_was_killed(how: str) -> None:
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PARENT, launch.__file__, how), stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    assert is_running(pid)
    parent.kill()
    await parent.wait()
    await until(lambda: not is_running(pid), "the child is gone")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (None, 7)])
async def test_watching_launcher_passes_on_signals_and_exit_codes(number: int | None, code: int) -> None:
    program = "print('up', flush=True)\n" + (SLEEPER if number else "raise SystemExit(7)")
    command = [sys.executable, launch.__file__, str(os.getpid()), "watch", sys.executable, "-c", program]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"up\n"
    if number is not None:
        process.send_signal(number)
    assert await process.wait() == code


def test_delays_grow_from_none_to_the_longest() -> None:
    assert [restart_delay(deaths) for deaths in (1, 2, 3, 4, 8, 100)] == [0.0, 0.5, 1.0, 2.0, 30.0, 30.0]


def test_exit_reasons_are_words() -> None:
    assert exit_reason(1) == "exited with code 1"
    assert exit_reason(-signal.SIGSEGV) == "was ended by SIGSEGV"
    assert exit_reason(-77) == "was ended by signal 77"
