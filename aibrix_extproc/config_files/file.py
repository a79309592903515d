"""One watched file: a broken edit keeps the last good reading and shows in the status.

Watching is by asking the file system twice a second: it works on every mount (ConfigMaps and Secrets, whose files are
links that Kubernetes swaps, NFS), where change notices do not.
"""

import asyncio
import math
import os
import stat
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, TypeVar

from aibrix_extproc.config_files.deadline import within_deadline
from aibrix_extproc.config_files.errors import SourceError, SourceFormatError, SourceLookupError

T = TypeVar("T")
Stamp = tuple[int, int, int] | None  # mtime in ns, size, inode; None: not there


@dataclass(frozen=True, slots=True)
class Pace:
    """Times between the polls of a source."""

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
    """Reports each new status once."""

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
            try:
                changed = await asyncio.to_thread(_stamps, tuple(self._seen)) != self._seen
            except SourceError as error:
                self._fail(error)
                continue
            if changed:
                await asyncio.sleep(self._pace.settle_seconds)
            if changed or time.monotonic() >= self._retry_at:
                await self._read(read, emit)

    async def _read(self, read: Callable[[], Awaitable[T]], emit: Callable[[T], None]) -> None:
        self._retry_at = math.inf
        try:
            self._seen = {self.path: None}  # in case that looking at it fails
            self._seen = await asyncio.to_thread(_stamps, (self.path,))
            found = await read()
        except SourceError as error:
            self._fail(error)
            return
        self._reporter.report()
        emit(found)

    def _fail(self, error: SourceError) -> None:
        if error.transient:
            self._retry_at = time.monotonic() + self._pace.retry_seconds
        self._reporter.report(str(error))


class FollowedFile(Generic[T]):
    """A file with a reader of its own: a broken edit keeps the last good reading and shows in the status."""

    def __init__(
        self, name: str, path: Path, read: Callable[[Path], T], on_status: OnStatus, *, pace: Pace = DEFAULT_PACE
    ) -> None:
        self._path = path
        self._read_now = read
        self._reporter = StatusReporter(name, on_status)
        self._file = WatchedFile(path, self._reporter, pace)

    @property
    def status(self) -> SourceStatus:
        """The latest status."""
        return self._reporter.status

    async def run(self, emit: Callable[[T], None]) -> None:
        """Emit each good reading, until cancelled."""
        await self._file.run(self._read, emit)

    async def _read(self) -> T:
        return await asyncio.to_thread(self._read_now, self._path)


def read_bytes(path: Path, max_bytes: int, *, what: str, too_large: str) -> bytes:
    """A small file's content. `what` names the file in messages, `too_large` says what to do.

    Blocks for some seconds at most. Pipes, devices and the like are refused: their readers wait without an end.
    """
    try:
        content = within_deadline(str(path), "read", lambda: _read_regular(path, max_bytes + 1))
    except _NotRegularError as error:
        raise SourceFormatError(f"{what} is {error}; give a regular file") from error
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


class _NotRegularError(Exception):
    """The path leads to something that is no file of bytes; the text says what."""


_KINDS: Final = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def _read_regular(path: Path, most: int) -> bytes:
    with open(path, "rb", opener=_open_at_once) as file:
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode):
            raise _NotRegularError(next((name for is_kind, name in _KINDS if is_kind(mode)), "no file"))
        return file.read(most)


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting: opening a pipe waits for its other end."""
    return os.open(path, flags | os.O_NONBLOCK)


def _stamps(paths: Sequence[Path]) -> dict[Path, Stamp]:
    return within_deadline(str(paths[0]), "look at", lambda: {path: _stamp(path) for path in paths}) if paths else {}


def _stamp(path: Path) -> Stamp:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
