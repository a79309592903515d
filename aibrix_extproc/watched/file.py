"""One watched file: a broken edit keeps the last good reading and shows in the status.

Watching is by asking the file system twice a second: it works on every mount (ConfigMaps and Secrets, whose files are
links that Kubernetes swaps, NFS), where change notices do not.
"""

import asyncio
import math
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from aibrix_extproc.watched.errors import SourceError, SourceFormatError, SourceLookupError

T = TypeVar("T")
Stamp = tuple[int, int, int] | None  # mtime in ns, size, inode; None: not there


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a source looks."""

    poll_seconds: float = 0.5
    settle_seconds: float = 0.05  # an editor that truncates and then writes must not be read in between
    retry_seconds: float = 5.0  # after a fault that no edit has to heal, such as a name that cannot be resolved


DEFAULT_PACE: Final = Pace()


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """Whether what a source says is what its operator wrote."""

    source: str
    ok: bool
    error: str = ""  # one sentence for the operator; names files, never keys
    wall_since: float = 0.0  # seconds since the epoch


OnStatus = Callable[[SourceStatus], None]


class StatusReporter:
    """Tells of each new status once."""

    def __init__(self, source: str, on_status: OnStatus) -> None:
        self._on_status = on_status
        self.status = SourceStatus(source, ok=False, error="not read yet", wall_since=time.time())

    def report(self, error: str = "") -> None:
        """Set the status; silent if it says what it said before."""
        if (self.status.ok, self.status.error) != (not error, error):
            self.status = SourceStatus(self.status.source, ok=not error, error=error, wall_since=time.time())
            self._on_status(self.status)


class WatchedFile:
    """Reads again whenever the file, or one that its reader named, changes."""

    def __init__(self, path: Path, reporter: StatusReporter, pace: Pace = DEFAULT_PACE) -> None:
        self.path = path
        self._reporter = reporter
        self._pace = pace
        self._seen: dict[Path, Stamp] = {}  # as they were before the latest reading
        self._retry_at = 0.0

    async def also(self, paths: Sequence[Path]) -> None:
        """For readers: these files belong to it, until the next reading. To be called before they are read."""
        self._seen |= await asyncio.to_thread(_stamps, paths)

    async def run(self, read: Callable[[], Awaitable[T]], emit: Callable[[T], None]) -> None:
        """Emit each good reading, until cancelled. A SourceError of `read` goes to the status."""
        await self._read(read, emit)
        while True:
            await asyncio.sleep(self._pace.poll_seconds)
            changed = await asyncio.to_thread(_stamps, tuple(self._seen)) != self._seen
            if changed:
                await asyncio.sleep(self._pace.settle_seconds)
            if changed or time.monotonic() >= self._retry_at:
                await self._read(read, emit)

    async def _read(self, read: Callable[[], Awaitable[T]], emit: Callable[[T], None]) -> None:
        self._retry_at = math.inf
        self._seen = await asyncio.to_thread(_stamps, (self.path,))
        try:
            found = await read()
        except SourceError as error:
            if error.transient:
                self._retry_at = time.monotonic() + self._pace.retry_seconds
            self._reporter.report(str(error))
            return
        self._reporter.report()
        emit(found)


def read_bytes(path: Path, max_bytes: int, *, what: str, too_large: str) -> bytes:
    """A small file's content. `what` names the file in messages, `too_large` says what to do."""
    try:
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise SourceLookupError(f"{what} cannot be read: {reason}; create it or correct its path") from error
    if len(content) > max_bytes:
        raise SourceFormatError(f"{what} is over {max_bytes} bytes; {too_large}")
    return content


def read_text(path: Path, max_bytes: int, *, kind: str, too_large: str) -> str:
    """The file's text without a byte order mark. `kind` names the file in messages, `too_large` says what to do."""
    content = read_bytes(path, max_bytes, what=f"{path}: the {kind}", too_large=too_large)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SourceFormatError(f"{path}, line {line}: not UTF-8; save the file as UTF-8") from error


def _stamps(paths: Sequence[Path]) -> dict[Path, Stamp]:
    return {path: _stamp(path) for path in paths}


def _stamp(path: Path) -> Stamp:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
