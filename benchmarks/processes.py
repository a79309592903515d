"""Processes of the rig: started so that they die with us, stopped by pid, their cost read from the kernel."""

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from aibrix_extproc.adapters.envoyproxy import launch

LOOPBACK = "127.0.0.1"
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def free_port() -> int:
    """A port that is free at the moment."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


class Started:
    """A child process with its output in a file."""

    def __init__(self, name: str, command: Sequence[str], log: Path) -> None:
        self.name = name
        self._log = log
        launcher = (sys.executable, "-I", "-S", str(launch.__file__), str(os.getpid()), "signal")
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                (*launcher, *command), stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    @property
    def pid(self) -> int:
        """The program's own pid: the launcher becomes the program."""
        return self._process.pid

    def check(self) -> None:
        """Raise with the end of its log if it has died."""
        code = self._process.poll()
        if code is not None:
            raise RuntimeError(f"{self.name} ended with code {code}:\n{self.last_words()}")

    def last_words(self) -> str:
        """The end of its log."""
        return self._log.read_text(errors="replace")[-3000:]

    def stop(self) -> None:
        """SIGTERM, then SIGKILL."""
        if self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds (user and system, all threads, dead ones too) and resident bytes of some processes."""

    cpu_seconds: float
    rss_bytes: int


def raise_open_files() -> None:
    """As many open files as the machine lets us have, for us and our children: thousands of streams are measured."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def usage(pids: Iterable[int]) -> Usage:
    """What processes have used so far.

    The process CPU clock is the sum of utime and stime without their rounding to ticks of 10 ms.
    """
    known = tuple(pids)
    return Usage(sum(time.clock_gettime((~pid << 3) | 2) for pid in known), sum(_resident(pid) for pid in known))


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES


def tree(root: int) -> tuple[int, ...]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            parent = _parent(entry)
            if parent is not None:
                children.setdefault(parent, []).append(int(entry.name))
    found = [root]
    for pid in found:
        found += children.get(pid, ())
    return tuple(found)


def _parent(entry: Path) -> int | None:
    try:
        text = (entry / "stat").read_text()
    except OSError:
        return None
    return int(text.rpartition(")")[2].split()[1])


def reset_peak(pids: Iterable[int]) -> None:
    """Begin a new high-water mark of resident memory."""
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_bytes(pids: Iterable[int]) -> int:
    """The high-water mark since `reset_peak`."""
    return sum(_high_water(pid) for pid in pids)


def _high_water(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
