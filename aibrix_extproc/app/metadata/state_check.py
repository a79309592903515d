"""Looks whether the database and the blob store can be used, for the readiness page."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from aibrix_extproc.adapters.blobs.store import BlobError, BlobStore
from aibrix_extproc.adapters.ledger.database import Database
from aibrix_extproc.adapters.ledger.errors import DatabaseError
from aibrix_extproc.app.parts.part import Part

logger = logging.getLogger(__name__)

INTERVAL_SECONDS: Final = 5.0
_GOOD: Final = "ok"


class StorageCheck(Part):
    """Reports what was found last, in a word or in an error. Serving needs the storage."""

    def __init__(self, name: str, use: Callable[[], Awaitable[None]]) -> None:
        """`use` raises when the storage cannot be used."""
        self._name = name
        self._use = use
        self._state = _GOOD

    @property
    def name(self) -> str:
        """What is checked."""
        return self._name

    @property
    def known(self) -> bool:
        """Whether it can be used."""
        return self._state == _GOOD

    @property
    def degraded(self) -> bool:
        """Whether it cannot."""
        return not self.known

    def report(self) -> str:
        """`ok`, or the error."""
        return self._state

    async def run(self) -> None:
        """Check until cancelled."""
        while True:
            before, self._state = self._state, await self._checked()
            if before != self._state:
                logger.warning("storage has changed", extra={"storage": self._name, "state": self._state})
            await asyncio.sleep(INTERVAL_SECONDS)

    async def _checked(self) -> str:
        try:
            async with asyncio.timeout(INTERVAL_SECONDS):
                await self._use()
        except (DatabaseError, BlobError, OSError, TimeoutError) as error:
            return (str(error) or type(error).__name__).splitlines()[0][:200]
        return _GOOD


def storage_checks(database: Database, blobs: BlobStore) -> tuple[StorageCheck, StorageCheck]:
    """One for each storage."""

    async def query() -> None:
        async with database.read() as connection:
            await database.now(connection)  # which also sets the clock of a process that only answers requests

    return StorageCheck("database", query), StorageCheck("blobs", blobs.check)
