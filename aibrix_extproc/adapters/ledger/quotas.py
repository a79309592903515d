"""How much one caller may store and have unfinished, and how near the fullest of them is to it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from aibrix_extproc.adapters.ledger.database import Database
from aibrix_extproc.adapters.ledger.schema import batches, storage, uploads
from aibrix_extproc.adapters.ledger.whole import whole
from aibrix_extproc.core.batches.lifecycle import TERMINAL, BatchStatus
from aibrix_extproc.core.files.records import UploadStatus

_UNFINISHED: Final = [status.value for status in BatchStatus if status not in TERMINAL]
_LOCKS: Final = 0x71_75_6F_74  # "quot": the first of the two numbers of our advisory locks


@dataclass(frozen=True, slots=True)
class Quota:
    """The most that one caller may have at a time."""

    files: int
    bytes: int  # of files, and of what pending uploads were created for
    uploads: int  # pending
    batches: int  # that have not ended


class QuotaExceededError(Exception):
    """The caller would store more than its quota."""


class TooManyError(Exception):
    """The caller has as many pending uploads, or unfinished batches, as it may."""


async def refuse_another_upload(
    connection: AsyncConnection, caller: str, size: int, quota: Quota, wall_now: float
) -> None:
    """In the transaction that adds an upload of a size. Raises TooManyError, QuotaExceededError."""
    await _alone(connection, caller)
    pending = select(func.count(), func.coalesce(func.sum(uploads.c.size), 0)).where(
        uploads.c.caller == caller, *_pending(wall_now)
    )
    count, promised = (await connection.execute(pending)).one()
    if count >= quota.uploads:
        raise TooManyError
    stored = (await connection.execute(select(storage.c.bytes).where(storage.c.caller == caller))).scalar()
    if promised + (stored or 0) + size > quota.bytes:
        raise QuotaExceededError


async def refuse_another_batch(connection: AsyncConnection, caller: str, quota: Quota) -> None:
    """In the transaction that adds a batch. Raises TooManyError."""
    await _alone(connection, caller)
    mine = select(func.count()).where(batches.c.caller == caller, batches.c.status.in_(_UNFINISHED))
    if (await connection.execute(mine)).scalar_one() >= quota.batches:
        raise TooManyError


async def _alone(connection: AsyncConnection, caller: str) -> None:
    """Let no other transaction count for this caller until ours has ended. SQLite has one writer anyway."""
    if connection.dialect.name == "postgresql":
        lock = text("SELECT pg_advisory_xact_lock(:kind, hashtext(:caller))")
        await connection.execute(lock, {"kind": _LOCKS, "caller": caller})


def _pending(wall_now: float) -> tuple[ColumnElement[bool], ...]:
    return uploads.c.status == UploadStatus.PENDING.value, uploads.c.expires_at > int(wall_now)


class QuotaLedger:
    """Reads how full quotas are."""

    def __init__(self, database: Database, quota: Quota) -> None:
        self._database = database
        self._quota = quota

    @whole
    async def fullest(self, wall_now: float) -> Mapping[str, float]:
        """By the name of each bound, the share of it that the caller with the most has used, from 0 to 1."""
        stored = select(func.max(storage.c.files), func.max(storage.c.bytes))
        async with self._database.read() as connection:
            files, size = (await connection.execute(stored)).one()
            pending = await _most(connection, uploads, *_pending(wall_now))
            unfinished = await _most(connection, batches, batches.c.status.in_(_UNFINISHED))
        return {
            "files": (files or 0) / self._quota.files,
            "bytes": (size or 0) / self._quota.bytes,
            "uploads": pending / self._quota.uploads,
            "batches": unfinished / self._quota.batches,
        }


async def _most(connection: AsyncConnection, table: Any, *which: ColumnElement[bool]) -> int:
    """The most rows of one caller."""
    counts = select(func.count().label("rows")).where(*which).group_by(table.c.caller).subquery()
    return int((await connection.execute(select(func.max(counts.c.rows)))).scalar() or 0)
