"""The fleet file as a source that is watched, and flags as one that never changes.

A broken edit keeps the last good fleet and shows in the status. Watching is by asking the file system twice a second:
it works on every mount (ConfigMaps, NFS), where change notices do not.
"""

import asyncio
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aibrix_extproc.adapters.fleetfile.entry import Entry
from aibrix_extproc.adapters.fleetfile.errors import FleetError, FleetFormatError, FleetLookupError
from aibrix_extproc.adapters.fleetfile.lookup import Resolve, key_files, look_up, resolve_host
from aibrix_extproc.adapters.fleetfile.parse import parse_file, refuse_repeated
from aibrix_extproc.core.fleet.reduce import Listed, SourceChange

MAX_FILE_BYTES: Final = 1024 * 1024

Emit = Callable[[SourceChange], None]
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


class _Reporter:
    """Tells of each new status once."""

    def __init__(self, source: str, on_status: OnStatus) -> None:
        self._on_status = on_status
        self.status = SourceStatus(source, ok=False, error="not read yet", wall_since=time.time())

    def report(self, error: str = "") -> None:
        """Set the status; silent if it says what it said before."""
        if (self.status.ok, self.status.error) != (not error, error):
            self.status = SourceStatus(self.status.source, ok=not error, error=error, wall_since=time.time())
            self._on_status(self.status)


class FleetFile:
    """A YAML file of endpoints, read again whenever it or a key file that it names changes."""

    def __init__(
        self,
        path: Path,
        on_status: OnStatus,
        *,
        name: str = "file",
        pace: Pace = DEFAULT_PACE,
        resolve: Resolve = resolve_host,
    ) -> None:
        self.name = name
        self._path = path
        self._pace = pace
        self._resolve = resolve
        self._reporter = _Reporter(name, on_status)
        self._seen: dict[Path, Stamp] = {}  # as they were before the latest reading
        self._retry_at = 0.0

    @property
    def status(self) -> SourceStatus:
        """The latest status."""
        return self._reporter.status

    async def run(self, emit: Emit) -> None:
        """Emit the whole fleet after each good reading, until cancelled."""
        await self._read(emit)
        while True:
            await asyncio.sleep(self._pace.poll_seconds)
            changed = await asyncio.to_thread(_stamps, tuple(self._seen)) != self._seen
            if changed:
                await asyncio.sleep(self._pace.settle_seconds)
            if changed or time.monotonic() >= self._retry_at:
                await self._read(emit)

    async def _read(self, emit: Emit) -> None:
        self._retry_at = math.inf
        self._seen = await asyncio.to_thread(_stamps, (self._path,))
        try:
            entries = await asyncio.to_thread(_read_entries, self._path)
            self._seen |= await asyncio.to_thread(_stamps, key_files(entries, self._path.parent))
            endpoints = await look_up(entries, self._path.parent, self._resolve)
        except FleetError as error:
            if error.transient:
                self._retry_at = time.monotonic() + self._pace.retry_seconds
            self._reporter.report(str(error))
            return
        self._reporter.report()
        emit(Listed(self.name, endpoints))


class FlagSource:
    """Endpoints given on the command line; the same address twice raises FleetFormatError at once."""

    def __init__(
        self,
        entries: Sequence[Entry],
        on_status: OnStatus,
        *,
        name: str = "flags",
        pace: Pace = DEFAULT_PACE,
        resolve: Resolve = resolve_host,
    ) -> None:
        self.name = name
        self._pace = pace
        self._resolve = resolve
        self._entries = refuse_repeated(entries)
        self._reporter = _Reporter(name, on_status)

    @property
    def status(self) -> SourceStatus:
        """The latest status."""
        return self._reporter.status

    async def run(self, emit: Emit) -> None:
        """Emit the endpoints once, then wait to be cancelled."""
        while True:
            try:
                endpoints = await look_up(self._entries, Path(), self._resolve)
            except FleetError as error:
                self._reporter.report(str(error))
                await asyncio.sleep(self._pace.retry_seconds)
                continue
            self._reporter.report()
            emit(Listed(self.name, endpoints))
            await asyncio.Event().wait()


def _stamps(paths: Sequence[Path]) -> dict[Path, Stamp]:
    return {path: _stamp(path) for path in paths}


def _stamp(path: Path) -> Stamp:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _read_entries(path: Path) -> tuple[Entry, ...]:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise FleetLookupError(
            f"{path}: the fleet file cannot be read: {os.strerror(error.errno or 0)}; create it or correct its path"
        ) from error
    if len(content) > MAX_FILE_BYTES:
        raise FleetFormatError(f"{path}: the fleet file is over {MAX_FILE_BYTES} bytes; split the fleet")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise FleetFormatError(f"{path}, line {line}: not UTF-8; save the file as UTF-8") from error
    return parse_file(text, str(path))
