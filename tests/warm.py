"""Starts modules as processes, in forks of one process that has imported them already.

A gateway or a simulator takes half a second of CPU to import and ten milliseconds to fork; a test session starts
hundreds. Arguments, environment, output, signals and exit code are those of `python -m MODULE`. Only the command line
in /proc is not: a test about that starts an interpreter of its own, and so does one of a terminal.

`WarmProcess` is for tests that would use a `subprocess.Popen`; `command` for those that hand a command to others;
`python` is an interpreter for modules that start others of ours.
"""

import asyncio
import atexit
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.warm_client import PYTHON_VARIABLE, Forked

ROOT: Final = Path(__file__).resolve().parents[1]
_WAIT_SECONDS: Final = 0.01


class WarmProcess:
    """A running module, used like a `subprocess.Popen`."""

    def __init__(self, module: str, arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        """Its output is appended to `log`; its working directory is the repository."""
        self.returncode: int | None = None
        with log.open("ab") as output, Path(os.devnull).open("rb") as nothing:
            descriptors = nothing.fileno(), output.fileno(), output.fileno()
            self._forked = Forked(listening(), [module, *arguments], descriptors, dict(environment), str(ROOT))
        self.pid = self._forked.pid

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        if self.returncode is None:
            self.returncode = self._forked.exit_code(block=False)
        return self.returncode

    def wait(self, timeout: float) -> int:
        """The exit code. Raises subprocess.TimeoutExpired."""
        end = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(_WAIT_SECONDS)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


class WarmOutput:
    """A running module whose output is read; like an `asyncio.subprocess.Process`."""

    def __init__(self, *words: str) -> None:
        self.returncode: int | None = None
        self.stdout = asyncio.StreamReader()
        read, write = os.pipe()
        self._pipe = os.fdopen(read, "rb", buffering=0)
        with Path(os.devnull).open("rb") as nothing:
            descriptors = nothing.fileno(), write, write
            self._forked = Forked(listening(), list(words), descriptors, environment(), str(Path.cwd()))
        os.close(write)
        self.pid = self._forked.pid

    @classmethod
    async def start(cls, *words: str) -> "WarmOutput":
        """`python -m WORDS...`, with both outputs in one."""
        process = cls(*words)
        protocol = asyncio.StreamReaderProtocol(process.stdout)
        await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, process._pipe)
        return process

    async def wait(self) -> int:
        """The exit code."""
        while (code := self._forked.exit_code(block=False)) is None:  # noqa: ASYNC110 - another process sets no event
            await asyncio.sleep(_WAIT_SECONDS)
        self.returncode = code
        return code

    async def communicate(self) -> tuple[bytes, None]:
        """What it says to its end."""
        said = await self.stdout.read()
        await self.wait()
        return said, None

    def send_signal(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)


def command(*words: str) -> list[str]:
    """What starts `python -m WORDS...` with the caller's environment, folder and open files; signals are passed on."""
    return [*_client(listening() if sys.platform == "linux" else ""), *words]


def _client(path: str) -> list[str]:
    if sys.platform != "linux":
        return [sys.executable, "-m"]
    return [sys.executable, "-I", "-S", str(ROOT / "tests" / "warm_client.py"), path]


def environment() -> dict[str, str]:
    """Ours, with which what a module starts by way of `sys.executable` is forked as well."""
    return os.environ | {PYTHON_VARIABLE: python()}  # noqa: TID251 - handed on


def python() -> str:
    """A script like `sys.executable`: `-m MODULE` with one of ours is a fork, everything else an interpreter."""
    return str(Path(listening()).with_name("python"))


def _write_python(path: str) -> None:
    script = Path(path).with_name("python")
    script.write_text(
        f'#!/bin/sh\ncase "$1 $2" in\n"-m aibrix_extproc") shift; exec {" ".join(_client(path))} "$@";;\n'
        f'*) exec {sys.executable} "$@";;\nesac\n'
    )
    script.chmod(0o700)


@functools.cache
def prepare() -> tuple[str, "subprocess.Popen[bytes]"]:
    """Start the process that forks, which ends with this one: where it will listen, and itself."""
    folder = tempfile.mkdtemp(prefix="warm-")
    path = f"{folder}/socket"
    _write_python(path)  # once, before anybody can run it: Linux runs no file that somebody is writing
    command = [sys.executable, "-m", "tests.warm_server", path, str(os.getpid())]
    origin = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd=ROOT)

    def end() -> None:
        origin.kill()
        origin.communicate()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    return path, origin


@functools.cache
def listening() -> str:
    """Where the process listens that forks."""
    path, origin = prepare()
    assert origin.stdout is not None
    assert origin.stdout.readline() == b"listening\n"
    return path
