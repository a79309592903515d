"""Leaves what was learned of engines in a file, for the process after this one."""

import asyncio
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from aibrix_extproc.adapters.statefile.file import read_state
from aibrix_extproc.app.parts.part import Part
from aibrix_extproc.config_files.replacing import write_atomically
from aibrix_extproc.core.routing.learned import MAX_BYTES, learned, remember
from aibrix_extproc.core.routing.predictor import Predictor

logger = logging.getLogger(__name__)

WRITE_SECONDS: Final = 30.0


class HandOver(Part):
    """One per process and file. A file that cannot be used is said, and is no error."""

    name = "hand_over"

    def __init__(self, path: Path, predictor: Predictor, *, write_seconds: float = WRITE_SECONDS) -> None:
        self._path = path
        self._predictor = predictor
        self._write_seconds = write_seconds
        self._error = ""
        self._wall_written: float | None = None
        self._remembered = 0
        try:
            self._remembered = remember(predictor, read_state(path, MAX_BYTES))
        except OSError as error:
            self._fail(error)
        logger.info("speeds of engines were taken over", extra={"engines": self._remembered})

    @property
    def degraded(self) -> bool:
        """Whether the file cannot be read or written."""
        return bool(self._error)

    async def run(self) -> None:
        """Write every now and then, and at the end."""
        try:
            while True:
                await asyncio.sleep(self._write_seconds)
                await asyncio.to_thread(self._write, learned(self._predictor))
        finally:
            self._write(learned(self._predictor))

    def report(self) -> Mapping[str, object]:
        """The amount that was taken over, and the time of the last write."""
        found: dict[str, object] = {"engines": self._remembered, "written": self._wall_written}
        return found | {"error": self._error} if self._error else found

    def _write(self, data: bytes) -> None:
        try:
            write_atomically(self._path, data)
        except OSError as error:
            self._fail(error)
        else:
            self._error, self._wall_written = "", time.time()

    def _fail(self, error: OSError) -> None:
        why = f"{self._path}: {error.strerror or error}"
        if why != self._error:
            logger.warning("what was learned of engines cannot be handed over", extra={"error": why})
        self._error = why
