"""Reads the secrets of a file: the first one signs, all of them verify."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from aibrix_extproc.watched.errors import SourceFormatError
from aibrix_extproc.watched.file import (
    DEFAULT_PACE,
    OnStatus,
    Pace,
    SourceStatus,
    StatusReporter,
    WatchedFile,
    read_text,
)

MIN_CHARACTERS: Final = 32
MAX_SECRETS: Final = 8  # each one is tried for a forged seal
MAX_BYTES: Final = 16 * 1024
_SECRET: Final = re.compile(r"[!-~]{32,512}")


class SecretFile:
    """Follows the file; a broken edit keeps the last good reading and shows in the status."""

    def __init__(self, path: Path, on_status: OnStatus, *, pace: Pace = DEFAULT_PACE) -> None:
        self._path = path
        self._reporter = StatusReporter("note_keys", on_status)
        self._file = WatchedFile(path, self._reporter, pace)

    @property
    def status(self) -> SourceStatus:
        """The latest status."""
        return self._reporter.status

    async def run(self, emit: Callable[[tuple[bytes, ...]], None]) -> None:
        """Emit each good reading, until cancelled."""
        await self._file.run(self._read, emit)

    async def _read(self) -> tuple[bytes, ...]:
        return await asyncio.to_thread(read_secrets, self._path)


def read_secrets(path: Path) -> tuple[bytes, ...]:
    """The secrets in order; empty lines and lines that begin with # are skipped. Raises SourceError."""
    text = read_text(path, MAX_BYTES, kind="file of note keys", too_large=f"it may have {MAX_SECRETS} keys, one a line")
    found: dict[bytes, None] = {}
    for number, line in enumerate(text.splitlines(), 1):
        secret = line.strip()
        if not secret or secret.startswith("#"):
            continue
        if not _SECRET.fullmatch(secret):
            raise SourceFormatError(
                f"{path}, line {number}: not a key; a key is {MIN_CHARACTERS} to 512 characters without spaces, such as"
                " `openssl rand -base64 32` prints"
            )
        found[secret.encode("ascii")] = None
    if not found:
        raise SourceFormatError(f"{path}: no key; write one a line, such as `openssl rand -base64 32` prints")
    if len(found) > MAX_SECRETS:
        raise SourceFormatError(f"{path}: {len(found)} keys, at most {MAX_SECRETS}; remove those that signed long ago")
    return tuple(found)
