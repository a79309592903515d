"""Files in the ledger."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final

from sqlalchemy import Row, Select, and_, delete, insert, or_, select, tuple_, union_all, update
from sqlalchemy.ext.asyncio import AsyncConnection

from aibrix_extproc.adapters.ledger.database import Database
from aibrix_extproc.adapters.ledger.quotas import Quota, QuotaExceededError
from aibrix_extproc.adapters.ledger.schema import (
    batch_inputs,
    batch_segments,
    batch_shards,
    file_segments,
    files,
    storage,
    upload_parts,
)
from aibrix_extproc.adapters.ledger.whole import whole
from aibrix_extproc.core.files.records import FileRecord, Segment
from aibrix_extproc.core.openai.contract.paging import Page

_COLUMNS: Final = tuple(column for column in files.columns)


class FileLedger:
    """Reads and writes files. A caller sees its own files only, and none that has expired."""

    def __init__(self, database: Database, quota: Quota) -> None:
        self._database = database
        self._quota = quota

    @whole
    async def add(self, record: FileRecord, segments: Sequence[Segment]) -> None:
        """Store a file. Raises QuotaExceededError."""
        async with self._database.write() as connection:
            await add_file(connection, record, segments, self._quota)

    @whole
    async def find(self, caller: str, file_id: str, wall_now: float) -> FileRecord | None:
        """The caller's file of that id."""
        query = select(*_COLUMNS).where(files.c.id == file_id, files.c.caller == caller, _alive(wall_now))
        rows = await self._database.rows(query)
        return _record(rows[0]) if rows else None

    @whole
    async def segments(self, file_id: str) -> list[Segment]:
        """The content of a file, in order."""
        return _segments(await self._database.rows(_segments_query(file_id)))

    @whole
    async def page(
        self, caller: str, page: Page, wall_now: float, purpose: str | None = None
    ) -> tuple[list[FileRecord], bool] | None:
        """One page of the caller's files and whether more follow; None if `after` names none of them."""
        query = select(*_COLUMNS).where(files.c.caller == caller, _alive(wall_now))
        if purpose is not None:
            query = query.where(files.c.purpose == purpose)
        async with self._database.read() as connection:
            rows = await page_of(connection, query, files, caller, page)
        return None if rows is None else ([_record(row) for row in rows[: page.limit]], len(rows) > page.limit)

    @whole
    async def delete(self, caller: str, file_id: str, wall_now: float) -> list[str] | None:
        """Delete the caller's file; the blobs that nothing refers to any more. None if there is no such file."""
        mine = and_(files.c.id == file_id, files.c.caller == caller, _alive(wall_now))
        async with self._database.write() as connection:
            return await remove_file(connection, mine)

    @whole
    async def delete_expired(self, wall_now: float) -> list[str] | None:
        """Delete one file whose time is over; the blobs that nothing refers to. None if there is none."""
        oldest = select(files.c.id).where(files.c.expires_at <= int(wall_now)).limit(1).scalar_subquery()
        async with self._database.write() as connection:
            return await remove_file(connection, files.c.id == oldest)

    @whole
    async def contents_after(self, blob: str, most: int) -> list[tuple[str, str, bool]]:
        """The next blobs of files behind one, in order: blob, file, and whether the file counts as lost."""
        columns = (file_segments.c.blob, files.c.id, files.c.lost)
        query = select(*columns).join(files, files.c.id == file_segments.c.file_id).where(file_segments.c.blob > blob)
        rows = await self._database.rows(query.order_by(file_segments.c.blob).limit(most))
        return [(row.blob, row.id, row.lost) for row in rows]

    @whole
    async def mark(self, file_id: str, *, lost: bool) -> None:
        """Whether the file's content is lost; a file that is deleted meanwhile stays deleted."""
        async with self._database.write() as connection:
            await connection.execute(update(files).where(files.c.id == file_id).values(lost=lost))

    @whole
    async def referenced(self, blobs: Collection[str]) -> set[str]:
        """Those of the blobs that some object refers to."""
        async with self._database.read() as connection:
            return await _referenced(connection, blobs)


async def add_file(
    connection: AsyncConnection, record: FileRecord, segments: Sequence[Segment], quota: Quota | None
) -> None:
    """Store a file in a transaction of the caller's. Raises QuotaExceededError; without a quota nothing is refused."""
    await _account(connection, record.caller, 1, record.size, quota)
    values = {column.name: getattr(record, column.name) for column in _COLUMNS}
    await connection.execute(insert(files).values(values))
    if segments:
        rows = [
            {"file_id": record.id, "number": number, "blob": one.blob, "size": one.size}
            for number, one in enumerate(segments)
        ]
        await connection.execute(insert(file_segments), rows)


async def segments_of(connection: AsyncConnection, file_id: str) -> list[Segment]:
    """The content of a file, in order."""
    return _segments((await connection.execute(_segments_query(file_id))).all())


def _segments_query(file_id: str) -> Select[Any]:
    columns = file_segments.c
    return select(columns.blob, columns.size).where(columns.file_id == file_id).order_by(columns.number)


def _segments(rows: Sequence[Row[Any]]) -> list[Segment]:
    return [Segment(row.blob, row.size) for row in rows]


async def page_of(
    connection: AsyncConnection, query: Select[Any], table: Any, caller: str, page: Page
) -> Sequence[Row[Any]] | None:
    """The rows of a page and one more if there is one; None if `after` names no row of the caller's."""
    place = tuple_(table.c.created_at, table.c.id)
    if page.after is not None:
        cursor = select(table.c.created_at, table.c.id).where(table.c.id == page.after, table.c.caller == caller)
        last = (await connection.execute(cursor)).first()
        if last is None:
            return None
        query = query.where(place < tuple(last) if page.newest_first else place > tuple(last))
    ordered = (table.c.created_at, table.c.id)
    order = [column.desc() for column in ordered] if page.newest_first else list(ordered)
    rows: Sequence[Row[Any]] = (await connection.execute(query.order_by(*order).limit(page.limit + 1))).all()
    return rows


async def unreferenced(connection: AsyncConnection, blobs: Collection[str]) -> list[str]:
    """Those of the blobs that nothing refers to."""
    used = await _referenced(connection, blobs)
    return [blob for blob in blobs if blob not in used]


async def _referenced(connection: AsyncConnection, blobs: Collection[str]) -> set[str]:
    wanted = list(blobs)
    if not wanted:
        return set()
    columns: Iterable[Any] = (
        file_segments.c.blob, upload_parts.c.blob, batch_inputs.c.blob, batch_segments.c.blob,
        batch_shards.c.output_blob, batch_shards.c.error_blob,
    )  # fmt: skip
    query = union_all(*(select(column.label("blob")).where(column.in_(wanted)) for column in columns))
    return {row.blob for row in await connection.execute(query)}


async def remove_file(connection: AsyncConnection, which: Any) -> list[str] | None:
    """Remove one file in a transaction of the caller's; the blobs that nothing refers to. None if there is none."""
    columns = (files.c.id, files.c.caller, files.c.size)
    found = (await connection.execute(select(*columns).where(which))).first()
    if found is None:
        return None
    blobs = [one.blob for one in await segments_of(connection, found.id)]
    removed = await connection.execute(delete(files).where(files.c.id == found.id))
    if not removed.rowcount:
        return None  # another process was quicker
    await connection.execute(delete(file_segments).where(file_segments.c.file_id == found.id))
    await _account(connection, found.caller, -1, -found.size, None)
    return await unreferenced(connection, blobs)


async def _account(connection: AsyncConnection, caller: str, count: int, size: int, quota: Quota | None) -> None:
    mine = storage.c.caller == caller
    change = update(storage).where(mine).values(files=storage.c.files + count, bytes=storage.c.bytes + size)
    if quota is not None:
        change = change.where(storage.c.files + count <= quota.files, storage.c.bytes + size <= quota.bytes)
    if (await connection.execute(change)).rowcount:
        return
    if (await connection.execute(select(storage.c.caller).where(mine))).first() is not None:
        raise QuotaExceededError
    if quota is not None and (count > quota.files or size > quota.bytes):
        raise QuotaExceededError
    await connection.execute(insert(storage).values(caller=caller, files=count, bytes=size))


def _alive(wall_now: float) -> Any:
    return or_(files.c.expires_at.is_(None), files.c.expires_at > int(wall_now))


def _record(row: Row[Any]) -> FileRecord:
    return FileRecord(**row._mapping)
