"""Uploads and their parts in the ledger."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Row, and_, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from aibrix_extproc.adapters.ledger.database import Database
from aibrix_extproc.adapters.ledger.files import add_file, unreferenced
from aibrix_extproc.adapters.ledger.quotas import Quota, refuse_another_upload
from aibrix_extproc.adapters.ledger.schema import upload_parts, uploads
from aibrix_extproc.adapters.ledger.whole import whole
from aibrix_extproc.core.files.records import FileRecord, PartRecord, Segment, UploadRecord, UploadStatus

_COLUMNS: Final = tuple(column for column in uploads.columns)
_PART_COLUMNS: Final = tuple(column for column in upload_parts.columns)


class UploadLedger:
    """Reads and writes uploads. Only a pending upload changes, so every change is conditional on that."""

    def __init__(self, database: Database, quota: Quota) -> None:
        self._database = database
        self._quota = quota

    @whole
    async def add(self, record: UploadRecord) -> None:
        """Store a new upload. Raises TooManyError, QuotaExceededError."""
        values = {column.name: getattr(record, column.name) for column in _COLUMNS} | {"status": record.status.value}
        async with self._database.write() as connection:
            await refuse_another_upload(connection, record.caller, record.size, self._quota, record.created_at)
            await connection.execute(insert(uploads).values(values))

    @whole
    async def find(self, caller: str, upload_id: str) -> UploadRecord | None:
        """The caller's upload of that id."""
        query = select(*_COLUMNS).where(uploads.c.id == upload_id, uploads.c.caller == caller)
        rows = await self._database.rows(query)
        return _record(rows[0]) if rows else None

    @whole
    async def stored_bytes(self, upload_id: str) -> int:
        """Bytes of all parts so far."""
        query = select(func.coalesce(func.sum(upload_parts.c.size), 0)).where(upload_parts.c.upload_id == upload_id)
        return int((await self._database.rows(query))[0][0])

    @whole
    async def add_part(self, part: PartRecord, wall_now: float, *, most: int) -> bool:
        """Store a part; False if the upload is not pending any more or would hold more than `most` parts."""
        values = {column.name: getattr(part, column.name) for column in _PART_COLUMNS}
        count = select(func.count()).where(upload_parts.c.upload_id == part.upload_id)
        async with self._database.write() as connection:
            if not await _touch(connection, part.upload_id, wall_now):
                return False
            if int((await connection.execute(count)).scalar_one()) >= most:
                return False
            await connection.execute(insert(upload_parts).values(values))
        return True

    @whole
    async def parts(self, upload_id: str) -> dict[str, PartRecord]:
        """All parts of an upload by id."""
        query = select(*_PART_COLUMNS).where(upload_parts.c.upload_id == upload_id)
        return {row.id: PartRecord(**row._mapping) for row in await self._database.rows(query)}

    @whole
    async def complete(
        self, upload_id: str, file: FileRecord, segments: Sequence[Segment], wall_now: float
    ) -> list[str] | None:
        """Make the file; the blobs of parts that it does not hold. None if the upload is not pending any more.

        Raises QuotaExceededError.
        """
        change = _pending(upload_id, wall_now).values(status=UploadStatus.COMPLETED.value, file_id=file.id)
        async with self._database.write() as connection:
            if not (await connection.execute(change)).rowcount:
                return None
            await add_file(connection, file, segments, self._quota)
            return await drop_parts(connection, upload_id)

    @whole
    async def cancel(self, upload_id: str, wall_now: float) -> list[str] | None:
        """Cancel; the blobs of its parts. None if the upload is not pending any more."""
        change = _pending(upload_id, wall_now).values(status=UploadStatus.CANCELLED.value)
        async with self._database.write() as connection:
            if not (await connection.execute(change)).rowcount:
                return None
            return await drop_parts(connection, upload_id)

    @whole
    async def expire(self, wall_now: float) -> list[str] | None:
        """Mark one upload as expired whose time is over; the blobs of its parts. None if there is none."""
        over = and_(uploads.c.status == UploadStatus.PENDING.value, uploads.c.expires_at <= int(wall_now))
        async with self._database.write() as connection:
            found = (await connection.execute(select(uploads.c.id).where(over).limit(1))).first()
            if found is None:
                return None
            change = update(uploads).where(uploads.c.id == found.id, over).values(status=UploadStatus.EXPIRED.value)
            await connection.execute(change)
            return await drop_parts(connection, found.id)

    @whole
    async def forget(self, before: float) -> int:
        """Remove uploads that ended before a time, so that the table does not grow for ever; how many."""
        ended = and_(uploads.c.status != UploadStatus.PENDING.value, uploads.c.expires_at <= int(before))
        async with self._database.write() as connection:
            return (await connection.execute(delete(uploads).where(ended))).rowcount


def _pending(upload_id: str, wall_now: float) -> Any:
    return update(uploads).where(
        uploads.c.id == upload_id,
        uploads.c.status == UploadStatus.PENDING.value,
        uploads.c.expires_at > int(wall_now),
    )


async def _touch(connection: AsyncConnection, upload_id: str, wall_now: float) -> bool:
    """Lock the upload's row for this transaction, so that it cannot complete meanwhile; whether it is pending."""
    change = _pending(upload_id, wall_now).values(status=UploadStatus.PENDING.value)
    return bool((await connection.execute(change)).rowcount)


async def drop_parts(connection: AsyncConnection, upload_id: str) -> list[str]:
    """Remove an upload's parts in a transaction of the caller's; the blobs that nothing refers to."""
    mine = upload_parts.c.upload_id == upload_id
    blobs = [row.blob for row in await connection.execute(select(upload_parts.c.blob).where(mine))]
    await connection.execute(delete(upload_parts).where(mine))
    return await unreferenced(connection, blobs)


def _record(row: Row[Any]) -> UploadRecord:
    values = dict(row._mapping)
    return UploadRecord(**values | {"status": UploadStatus(values["status"])})
