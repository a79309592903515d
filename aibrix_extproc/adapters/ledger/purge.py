"""Removes everything that one caller has stored."""

from typing import Any

from sqlalchemy import delete, select

from aibrix_extproc.adapters.ledger.database import Database
from aibrix_extproc.adapters.ledger.files import remove_file
from aibrix_extproc.adapters.ledger.schema import batches, files, storage, uploads
from aibrix_extproc.adapters.ledger.uploads import drop_parts
from aibrix_extproc.adapters.ledger.whole import whole
from aibrix_extproc.adapters.ledger.work import forget_work


class PurgeLedger:
    """One object a step, so that no transaction is long. Each step gives the blobs that nothing refers to any more."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @whole
    async def remove_batch(self, caller: str) -> list[str] | None:
        """Remove one batch of the caller's; a process that works on it loses its lease. None: there is none."""
        async with self._database.write() as connection:
            found = await self._first(connection, batches, caller)
            if found is None:
                return None
            blobs = await forget_work(connection, found)
            await connection.execute(delete(batches).where(batches.c.id == found))
            return blobs

    @whole
    async def remove_upload(self, caller: str) -> list[str] | None:
        """Remove one upload of the caller's, and its parts. None: there is none."""
        async with self._database.write() as connection:
            found = await self._first(connection, uploads, caller)
            if found is None:
                return None
            blobs = await drop_parts(connection, found)
            await connection.execute(delete(uploads).where(uploads.c.id == found))
            return blobs

    @whole
    async def remove_file(self, caller: str) -> list[str] | None:
        """Remove one file of the caller's. None: there is none."""
        oldest = select(files.c.id).where(files.c.caller == caller).limit(1).scalar_subquery()
        async with self._database.write() as connection:
            return await remove_file(connection, files.c.id == oldest)

    @whole
    async def forget(self, caller: str) -> None:
        """Remove the account of what the caller stores, if it stores nothing."""
        empty = storage.c.caller == caller, storage.c.files == 0
        async with self._database.write() as connection:
            await connection.execute(delete(storage).where(*empty))

    async def _first(self, connection: Any, table: Any, caller: str) -> str | None:
        found: str | None = await connection.scalar(select(table.c.id).where(table.c.caller == caller).limit(1))
        return found
