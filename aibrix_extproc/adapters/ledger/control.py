"""Control rows in the ledger: the only durable place of cordons, callers, keys, limits, adapters and model policies.

The functions that take a connection are for writers of this room that change more in the same transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from sqlalchemy import Row as TableRow
from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from aibrix_extproc.adapters.ledger.database import Database
from aibrix_extproc.adapters.ledger.schema import control_rows, control_version
from aibrix_extproc.adapters.ledger.whole import whole
from aibrix_extproc.core.control.rows import MAX_DATA_BYTES, MAX_ID, Page, Row, Section

PAGE_ROWS: Final = 2_000
PAGE_BYTES: Final = 4 * 1024 * 1024  # of data in one page of changes
_COLUMNS: Final = (
    control_rows.c.section, control_rows.c.id, control_rows.c.version, control_rows.c.data, control_rows.c.deleted,
)  # fmt: skip


class VersionConflictError(Exception):
    """The row has another version than the writer expects; `version` is the present one, 0 if there is no row."""

    def __init__(self, version: int) -> None:
        super().__init__(f"the row has the version {version}")
        self.version = version


class UniqueKeyTakenError(Exception):
    """Another row of the section has the unique key."""


@dataclass(frozen=True, slots=True)
class Put:
    """A record to be stored; the fields of `ControlLedger.put`."""

    section: Section
    row_id: str
    data: object
    unique_key: str | None = None
    parent: str | None = None
    expect_version: int | None = None


class ControlLedger:
    """Reads and writes control rows. `data` is any value that msgspec encodes as JSON, such as a struct."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @whole
    async def put(
        self, section: Section, row_id: str, data: object, *, unique_key: str | None = None,
        parent: str | None = None, expect_version: int | None = None,
    ) -> Row:  # fmt: skip
        """Store a record. `expect_version`: only over this version, 0 for one that must be new. `parent`: for `page`.

        Raises VersionConflictError and UniqueKeyTakenError; ValueError for an id or data over their bounds.
        """
        async with self._database.write() as connection:
            now = await self._database.now(connection)
            put = Put(section, row_id, data, unique_key, parent, expect_version)
            return await _put(connection, now, put)

    @whole
    async def put_all(self, puts: Sequence[Put]) -> list[Row]:
        """Store several records, or none of them. Raises as `put` does."""
        async with self._database.write() as connection:
            now = await self._database.now(connection)
            return [await _put(connection, now, one) for one in puts]

    @whole
    async def delete(self, section: Section, row_id: str, *, expect_version: int | None = None) -> Row | None:
        """Remove a record: the row as it was; None if there was none. Raises VersionConflictError."""
        async with self._database.write() as connection:
            now = await self._database.now(connection)
            return await delete_row(connection, now, section, row_id, expect_version=expect_version)

    @whole
    async def get(self, section: Section, row_id: str) -> Row | None:
        """The record of this id."""
        async with self._database.read() as connection:
            return await get_row(connection, section, row_id)

    @whole
    async def page(
        self, section: Section, after: str | None, limit: int, *, parent: str | None = None
    ) -> tuple[list[Row], bool]:
        """Records of a section in the order of their ids, from behind `after`; and whether more follow."""
        query = select(*_COLUMNS).where(control_rows.c.section == section.value, ~control_rows.c.deleted)
        if parent is not None:
            query = query.where(control_rows.c.parent == parent)
        if after is not None:
            query = query.where(control_rows.c.id > after)
        async with self._database.read() as connection:
            found = (await connection.execute(query.order_by(control_rows.c.id).limit(limit + 1))).all()
        return [_row(one) for one in found[:limit]], len(found) > limit

    @whole
    async def count(self, section: Section) -> int:
        """How many records a section has."""
        query = select(func.count()).where(control_rows.c.section == section.value, ~control_rows.c.deleted)
        async with self._database.read() as connection:
            return int((await connection.execute(query)).scalar_one())

    @whole
    async def naming(self, section: Section, text: str) -> list[Row]:
        """The records of a section whose data has this text; reads all of them in the database."""
        named = control_rows.c.data.contains(text, autoescape=True)
        query = select(*_COLUMNS).where(control_rows.c.section == section.value, ~control_rows.c.deleted, named)
        async with self._database.read() as connection:
            return [_row(one) for one in await connection.execute(query)]

    @whole
    async def version(self) -> tuple[str, int]:
        """The history and the version of the last change: one row, cheap to ask often."""
        (found,) = await self._database.rows(select(control_version.c.history, control_version.c.version))
        return found.history, found.version

    @whole
    async def since(self, history: str, version: int, *, restarting: bool = False) -> Page:
        """The changes after a version, at most PAGE_ROWS rows and about PAGE_BYTES bytes; the rest with the next page.

        `restarting`: the asker has not had the last page of a restart, so forgotten removals do not matter to it.
        """
        async with self._database.read() as connection:
            present = (await connection.execute(select(control_version))).one()
            floor = 0 if restarting else present.floor
            restart = history != present.history or not floor <= version <= present.version
            start = 0 if restart else version
            # A row that changes after the version was read has a higher one: it belongs to a later page.
            query = (
                select(*_COLUMNS)
                .where(control_rows.c.version > start, control_rows.c.version <= present.version)
                .order_by(control_rows.c.version)
                .limit(PAGE_ROWS + 1)
            )
            rows = [_row(one) for one in (await connection.execute(query)).all()]
        kept = _bounded(rows)
        more = len(kept) < len(rows)
        return Page(present.history, kept[-1].version if more else present.version, tuple(kept), more, restart)

    @whole
    async def forget_removed(self, age_seconds: float) -> int:
        """Drop rows that were removed so long ago: how many. Processes that have not seen them start from version 0."""
        async with self._database.write() as connection:
            before = await self._database.now(connection) - age_seconds
            old = control_rows.c.deleted, control_rows.c.changed_at < before
            latest = await connection.scalar(select(func.max(control_rows.c.version)).where(*old))
            if latest is None:
                return 0
            await connection.execute(update(control_version).values(floor=latest))
            return (await connection.execute(delete(control_rows).where(*old))).rowcount


async def _put(connection: AsyncConnection, now: float, put: Put) -> Row:
    return await put_row(
        connection, now, put.section, put.row_id, put.data, unique_key=put.unique_key, parent=put.parent,
        expect_version=put.expect_version,
    )  # fmt: skip


async def put_row(
    connection: AsyncConnection, now: float, section: Section, row_id: str, data: object, *,
    unique_key: str | None = None, parent: str | None = None, expect_version: int | None = None,
) -> Row:  # fmt: skip
    """`ControlLedger.put` inside of a transaction."""
    encoded = msgspec.json.encode(data)
    if (
        not 0 < len(row_id) <= MAX_ID
        or len(encoded) > MAX_DATA_BYTES
        or max(len(unique_key or ""), len(parent or "")) > MAX_ID
    ):
        raise ValueError("an id or the data of a control row is out of bounds")
    version = await _next_version(connection)
    await _check(connection, section, row_id, expect_version)
    values = {
        "version": version, "data": encoded.decode(), "deleted": False, "unique_key": unique_key, "parent": parent,
        "changed_at": now,
    }  # fmt: skip
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    statement: Any = dialect.insert(control_rows).values(section=section.value, id=row_id, **values)
    try:
        await connection.execute(statement.on_conflict_do_update(index_elements=["section", "id"], set_=values))
    except IntegrityError as error:
        raise UniqueKeyTakenError(unique_key) from error
    return Row(section.value, row_id, version, msgspec.Raw(encoded))


async def delete_row(
    connection: AsyncConnection, now: float, section: Section, row_id: str, *, expect_version: int | None = None
) -> Row | None:
    """`ControlLedger.delete` inside of a transaction."""
    version = await _next_version(connection)
    await _check(connection, section, row_id, expect_version)
    found = await get_row(connection, section, row_id)
    if found is None:
        return None
    values = {"version": version, "data": "", "deleted": True, "unique_key": None, "parent": None, "changed_at": now}
    here = control_rows.c.section == section.value, control_rows.c.id == row_id
    await connection.execute(update(control_rows).where(*here).values(values))
    return found


async def get_row(connection: AsyncConnection, section: Section, row_id: str) -> Row | None:
    """`ControlLedger.get` inside of a transaction."""
    here = control_rows.c.section == section.value, control_rows.c.id == row_id, ~control_rows.c.deleted
    found = (await connection.execute(select(*_COLUMNS).where(*here))).first()
    return None if found is None else _row(found)


async def _next_version(connection: AsyncConnection) -> int:
    """The next version. Writers wait here for each other until the end of the transaction."""
    change = update(control_version).values(version=control_version.c.version + 1).returning(control_version.c.version)
    return int((await connection.execute(change)).scalar_one())


async def _check(connection: AsyncConnection, section: Section, row_id: str, expected: int | None) -> None:
    if expected is None:
        return
    found = await get_row(connection, section, row_id)
    present = 0 if found is None else found.version
    if present != expected:
        raise VersionConflictError(present)


def _row(found: TableRow[*tuple[Any, ...]]) -> Row:
    data = None if found.deleted else msgspec.Raw(found.data.encode())
    return Row(found.section, found.id, found.version, data)


def _bounded(rows: list[Row]) -> list[Row]:
    """The first rows within a page's bounds, one at least."""
    size = 0
    for number, row in enumerate(rows):
        size += len(row.data or b"") + len(row.id)
        if number >= PAGE_ROWS or (number and size > PAGE_BYTES):
            return rows[:number]
    return rows
