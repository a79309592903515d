"""The fleet file as a source that is watched, and flags as one that never changes."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from aibrix_extproc.adapters.fleetfile.entry import Entry
from aibrix_extproc.adapters.fleetfile.lookup import Resolve, key_files, look_up, resolve_host
from aibrix_extproc.adapters.fleetfile.parse import parse_file, refuse_repeated
from aibrix_extproc.config_files.errors import SourceError
from aibrix_extproc.config_files.file import (
    DEFAULT_PACE,
    OnStatus,
    Pace,
    SourceStatus,
    StatusReporter,
    WatchedFile,
    read_text,
)
from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.fleet.reduce import Listed, SourceChange

MAX_FILE_BYTES: Final = 1024 * 1024

Emit = Callable[[SourceChange], None]


class FleetFile:
    """A YAML file of endpoints, read again whenever it or a key file that it names changes."""

    name = "file"

    def __init__(
        self, path: Path, on_status: OnStatus, *, pace: Pace = DEFAULT_PACE, resolve: Resolve = resolve_host
    ) -> None:
        self._resolve = resolve
        self._reporter = StatusReporter(self.name, on_status)
        self._file = WatchedFile(path, self._reporter, pace)

    @property
    def status(self) -> SourceStatus:
        """The latest status."""
        return self._reporter.status

    async def run(self, emit: Emit) -> None:
        """Emit the whole fleet after each good reading, until cancelled."""
        await self._file.run(self._read, lambda endpoints: emit(Listed(self.name, endpoints)))

    async def _read(self) -> tuple[Endpoint, ...]:
        path = self._file.path
        entries = await asyncio.to_thread(_read_entries, path)
        await self._file.also(key_files(entries, path.parent))
        return await look_up(entries, path.parent, self._resolve)


class FlagSource:
    """Endpoints given on the command line; the same address twice raises SourceFormatError at once."""

    name = "flags"

    def __init__(
        self,
        entries: Sequence[Entry],
        on_status: OnStatus,
        *,
        pace: Pace = DEFAULT_PACE,
        resolve: Resolve = resolve_host,
    ) -> None:
        self._pace = pace
        self._resolve = resolve
        self._entries = refuse_repeated(entries)
        self._reporter = StatusReporter(self.name, on_status)

    @property
    def status(self) -> SourceStatus:
        """The latest status."""
        return self._reporter.status

    async def run(self, emit: Emit) -> None:
        """Emit the endpoints once, then wait to be cancelled."""
        while True:
            try:
                endpoints = await look_up(self._entries, Path(), self._resolve)
            except SourceError as error:
                self._reporter.report(str(error))
                await asyncio.sleep(self._pace.retry_seconds)
                continue
            self._reporter.report()
            emit(Listed(self.name, endpoints))
            await asyncio.Event().wait()


async def check_fleet_file(path: Path) -> None:
    """Read it once, with the key files that it names, without resolving host names. Raises SourceError."""

    async def as_written(name: str) -> str:
        return name

    await look_up(_read_entries(path), path.parent, as_written)


def _read_entries(path: Path) -> tuple[Entry, ...]:
    text = read_text(path, MAX_FILE_BYTES, kind="fleet file", too_large="split the fleet")
    return parse_file(text, str(path))
