"""Follows the key file. After an edit that breaks it, the last good keys stay in use."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from aibrix_extproc.adapters.keyfile.parse import parse_keys
from aibrix_extproc.config_files.errors import SourceFormatError
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
from aibrix_extproc.core.access.keys import MAX_KEY_LENGTH

MAX_FILE_BYTES: Final = 8 * 1024 * 1024  # some 30,000 keys; a Secret holds 1 MiB
_KEY: Final = re.compile(r"[!-~]{32,}")

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


def read_one_key(path: Path) -> str:
    """The key that is all of a file. Raises SourceError."""
    key = read_text(path, MAX_KEY_LENGTH + 2, kind="file of an administrator's key", too_large="write one key").strip()
    if not _KEY.fullmatch(key):
        raise SourceFormatError(f"{path}: not a key; write one of 32 characters or more, without spaces")
    return key
