"""`aibrix-extproc metadata purge`: the end of everything that one caller has stored."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aibrix_extproc.adapters.blobs.store import BlobError, BlobStore
from aibrix_extproc.adapters.ledger.database import Database, LedgerError
from aibrix_extproc.adapters.ledger.errors import DatabaseError
from aibrix_extproc.adapters.ledger.purge import PurgeLedger
from aibrix_extproc.settings.metadata import MetadataSettings


class PurgeError(Exception):
    """It could not be done to its end; one sentence. A second try goes on where this one stopped."""


@dataclass(frozen=True, slots=True)
class Purged:
    """How much was removed."""

    batches: int
    uploads: int
    files: int


def purge_caller(own: MetadataSettings, caller: str) -> Purged:
    """Remove all batches, uploads and files of a caller, beside services that run. Raises PurgeError."""
    data = own.data_dir.absolute()
    try:
        blobs = BlobStore(own.blobs or f"file://{data / 'blobs'}")
        database = Database(own.database or f"sqlite:///{data / 'ledger.sqlite'}")
        return asyncio.run(_purge(database, blobs, caller))
    except (BlobError, LedgerError, DatabaseError, OSError) as error:
        raise PurgeError(str(error).splitlines()[0]) from error


async def _purge(database: Database, blobs: BlobStore, caller: str) -> Purged:
    ledger = PurgeLedger(database)
    await database.open()
    try:
        # Batches first: one that still runs would make files.
        found = Purged(
            await _drained(blobs, lambda: ledger.remove_batch(caller)),
            await _drained(blobs, lambda: ledger.remove_upload(caller)),
            await _drained(blobs, lambda: ledger.remove_file(caller)),
        )
        await ledger.forget(caller)
        return found
    finally:
        await database.close()


async def _drained(blobs: BlobStore, step: Callable[[], Awaitable[list[str] | None]]) -> int:
    count = 0
    while (keys := await step()) is not None:
        await blobs.delete(keys)
        count += 1
    return count
