"""Looks whether the database and the blob store can be used, for the readiness page."""

import asyncio
import logging
from typing import Final

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from aibrix_extproc.adapters.blobs.store import BlobError, BlobStore
from aibrix_extproc.adapters.ledger.database import Database

logger = logging.getLogger(__name__)

INTERVAL_SECONDS: Final = 5.0
_GOOD: Final = "ok"


class StateCheck:
    """What was found last, in a word or in an error."""

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self._database = database
        self._blobs = blobs
        self.database = _GOOD
        self.blobs = _GOOD

    @property
    def ok(self) -> bool:
        """Whether both can be used."""
        return self.database == self.blobs == _GOOD

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            was = self.ok
            self.database, self.blobs = await self._look_at_database(), await self._look_at_blobs()
            if was is not self.ok:
                logger.warning("storage has changed", extra={"database": self.database, "blobs": self.blobs})
            await asyncio.sleep(INTERVAL_SECONDS)

    async def _look_at_database(self) -> str:
        try:
            async with asyncio.timeout(INTERVAL_SECONDS), self._database.read() as connection:
                await connection.execute(text("SELECT 1"))
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            return (str(error) or type(error).__name__).splitlines()[0][:200]
        return _GOOD

    async def _look_at_blobs(self) -> str:
        try:
            async with asyncio.timeout(INTERVAL_SECONDS):
                await self._blobs.check()
        except (BlobError, TimeoutError) as error:
            return (str(error) or type(error).__name__).splitlines()[0][:200]
        return _GOOD
