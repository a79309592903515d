"""Processes that a test starts: their output in a file, their end with the test's, each by its own pid."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from aibrix_extproc.adapters.envoyproxy import launch
from tests.waiting import eventually
from tests.warm import WarmProcess

ROOT = Path(__file__).resolve().parents[2]
STOP_SECONDS = 10.0


class Child:
    """A running process. `python -m MODULE` is a fork of one that has imported what it needs."""

    def __init__(self, name: str, command: Sequence[str], directory: Path) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        self._process: subprocess.Popen[bytes] | WarmProcess
        if [*command[:2]] == [sys.executable, "-m"] and sys.platform == "linux":
            self._process = WarmProcess(command[2], command[3:], self.log, os.environ)  # noqa: TID251 - handed on
            return
        # Dies with this process even when that is killed, on Linux.
        wrapper = [sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), "signal"]
        prefix = wrapper if sys.platform == "linux" else []
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*prefix, *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT, start_new_session=True
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def peak_mib(self) -> int:
        """The most memory that it ever held; 0 where the system does not say."""
        status = Path(f"/proc/{self.pid}/status")
        if not status.exists():
            return 0
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) // 1024

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_output(self, mark: str, deadline: float = 60.0) -> str:
        """The first line with a mark; a child that ended without it fails at once."""

        def found() -> str | None:
            ended = not self.running
            line = next((one for one in self.output().splitlines() if mark in one), None)
            assert line or not ended, f"{self.name} ended with {self._process.returncode}:\n{self.output()[-2000:]}"
            return line

        return str(eventually(found, f"{self.name} says {mark!r}", seconds=deadline))

    def kill(self) -> None:
        """SIGKILL, and wait."""
        self._process.kill()
        self._process.wait(STOP_SECONDS)

    def terminate(self) -> None:
        """SIGTERM; does not wait."""
        self._process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        """The exit code."""
        return self._process.wait(seconds)
