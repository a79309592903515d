"""A certificate and its key in two files, as a Secret is mounted. They are watched, and the last good pair is kept."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from aibrix_extproc.config_files.file import (
    DEFAULT_PACE,
    OnStatus,
    Pace,
    SourceStatus,
    StatusReporter,
    WatchedFile,
    read_bytes,
)
from aibrix_extproc.tls.credentials import KeyPair
from aibrix_extproc.tls.pair import check

MAX_BYTES: Final = 256 * 1024  # of each file; a chain of three takes 6 KB


class PairFiles:
    """Reads both files again whenever one of them changes."""

    def __init__(self, certificate: Path, key: Path, on_status: OnStatus, *, pace: Pace = DEFAULT_PACE) -> None:
        self._certificate = certificate
        self._key = key
        self._reporter = StatusReporter("tls", on_status)
        self._file = WatchedFile(certificate, self._reporter, pace)

    @property
    def status(self) -> SourceStatus:
        """The latest status."""
        return self._reporter.status

    async def run(self, emit: Callable[[KeyPair], None]) -> None:
        """Emit each valid pair, until cancelled."""
        await self._file.run(self._read, emit)

    async def _read(self) -> KeyPair:
        # Between the replacement of one file and of the other the pair is refused; the second change is read again.
        await self._file.also((self._key,))
        return await asyncio.to_thread(read_pair, self._certificate, self._key)


def read_pair(certificate: Path, key: Path) -> KeyPair:
    """Read and check both files. Raises SourceError with one sentence for the operator."""
    pair = KeyPair(_read(certificate, "certificate"), _read(key, "key of the certificate"))
    check(pair, str(certificate), str(key))
    return pair


def _read(path: Path, kind: str) -> bytes:
    return read_bytes(path, MAX_BYTES, what=f"{path}: the {kind}", too_large="that is too much for one")
