"""Follows the key file. After an edit that breaks it, the last good keys stay in use."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from aibrix_extproc.adapters.keyfile.parse import parse_keys
from aibrix_extproc.config_files.file import (
    DEFAULT_PACE,
    OnStatus,
    Pace,
    SourceStatus,
    StatusReporter,
    WatchedFile,
    read_text,
)
from aibrix_extproc.core.access.holders import KeyHolder

MAX_FILE_BYTES: Final = 8 * 1024 * 1024  # some 30,000 keys; a Secret holds 1 MiB

Emit = Callable[[tuple[KeyHolder, ...]], None]


class KeyFile:
    """A YAML file of callers, read again whenever it changes."""

    def __init__(self, path: Path, on_status: OnStatus, *, name: str = "keys", pace: Pace = DEFAULT_PACE) -> None:
        self.name = name
        self._reporter = StatusReporter(name, on_status)
        self._file = WatchedFile(path, self._reporter, pace)

    @property
    def status(self) -> SourceStatus:
        """The latest status."""
        return self._reporter.status

    async def run(self, emit: Emit) -> None:
        """Emit all holders after each good reading, until cancelled."""
        await self._file.run(self._read, emit)

    async def _read(self) -> tuple[KeyHolder, ...]:
        return await asyncio.to_thread(read_keys, self._file.path)


def read_keys(path: Path) -> tuple[KeyHolder, ...]:
    """The holders in a file; raises SourceError with one sentence for its operator."""
    return parse_keys(read_key_text(path), str(path))


def read_key_text(path: Path) -> str:
    """The file's text, within its bounds."""
    return read_text(path, MAX_FILE_BYTES, kind="key file", too_large="split the callers between gateways")
