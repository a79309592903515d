"""Usage records in the ledger: each once, with their sums by the hour and the day."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from sqlalchemy import case, delete, false, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from aibrix_extproc.adapters.ledger.database import Database
from aibrix_extproc.adapters.ledger.schema import usage_records, usage_rollups
from aibrix_extproc.adapters.ledger.whole import whole
from aibrix_extproc.core.access.usage import UsageRecord
from aibrix_extproc.core.access.usage_query import UsageQuery
from aibrix_extproc.core.access.usage_sums import ROLLED_UP, Series, Sums, summed

_SUMS: Final = tuple(Sums.__slots__)
_REMOVED_AT_ONCE: Final = 10_000
# A field of a query -> its column.
_FIELDS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "user_id": lambda table: table.c.caller,
    "api_key_id": lambda table: table.c.key_id,
    "model": lambda table: table.c.model,
    "operation": lambda table: table.c.operation,
    "batch": lambda table: table.c.batch if "batch" in table.c else table.c.batch_id != "",
}
_SERIES_FIELDS: Final = {
    "user_id": "caller",
    "api_key_id": "key_id",
    "model": "model",
    "operation": "operation",
    "batch": "batch",
}


class UsageLedger:
    """Writes records. Several replicas may get the same one."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @whole
    async def add(self, records: Sequence[UsageRecord]) -> int:
        """Store those that are not there yet, and count them in the sums: how many they are."""
        # In one order in every transaction, so that two of them do not wait for each other.
        by_id = {record.id: record for record in sorted(records, key=lambda one: one.id)}
        async with self._database.write() as connection:
            new = await _inserted(connection, list(by_id.values()))
            for width in ROLLED_UP:
                await _count([by_id[one] for one in sorted(new)], width, connection)
        return len(new)

    @whole
    async def sums(
        self, query: UsageQuery, operations: Collection[str] | None, most: int
    ) -> list[tuple[int, Series, Sums]] | None:
        """The sums of the page's buckets, by their start and by the fields that the query groups by.

        `operations`: only these; None: all. None is returned for more than `most` sums.
        """
        statement = _selected(query, operations).limit(most + 1)
        async with self._database.read() as connection:
            rows = (await connection.execute(statement)).all()
        return None if len(rows) > most else [_sum(row) for row in rows]

    @whole
    async def forget(self, wall_before: float) -> int:
        """Remove some records from before this time, their sums stay: how many, 0 if there are none."""
        old = select(usage_records.c.id).where(usage_records.c.at < int(wall_before)).limit(_REMOVED_AT_ONCE)
        async with self._database.write() as connection:
            return (await connection.execute(delete(usage_records).where(usage_records.c.id.in_(old)))).rowcount

    @whole
    async def forget_sums(self, width: int, wall_before: float) -> int:
        """Remove the sums of one width from before this time: how many."""
        old = usage_rollups.c.width == width, usage_rollups.c.start < int(wall_before)
        async with self._database.write() as connection:
            return (await connection.execute(delete(usage_rollups).where(*old))).rowcount


def _selected(query: UsageQuery, operations: Collection[str] | None) -> Any:
    """Fields that the query does not group by come as an empty text."""
    is_minute = query.width not in ROLLED_UP
    table = usage_records if is_minute else usage_rollups
    start = (table.c.at - table.c.at % query.width) if is_minute else table.c.start
    names = [name for name in _FIELDS if name in query.group_by]
    columns = {field: _FIELDS[field](table) for field in _FIELDS}
    at = table.c.at if is_minute else table.c.start
    where = [at >= query.start, at < query.page_end]
    if not is_minute:
        where.append(table.c.width == query.width)
    where += [columns[field].in_(values) for field, values in query.filters.items() if field in columns]
    where += [false() for field in query.filters if field not in columns]
    if query.batch is not None:
        where.append(columns["batch"] == query.batch)
    if operations is not None:
        where.append(table.c.operation.in_(sorted(operations)))
    sums = _record_sums() if is_minute else [func.sum(table.c[name]).label(name) for name in _SUMS]
    groups = [columns[name].label(f"group_{name}") for name in names]
    return select(start.label("start"), *groups, *sums).where(*where).group_by(start, *groups).order_by(start)


def _record_sums() -> list[Any]:
    table = usage_records.c
    counted: dict[str, Any] = {
        "requests": func.count(),
        "failed": func.sum(case((table.status.between(200, 299), 0), else_=1)),
        "estimated": func.sum(case((table.estimated, 1), else_=0)),
    }
    return [(counted[name] if name in counted else func.sum(table[name])).label(name) for name in _SUMS]


def _sum(row: Any) -> tuple[int, Series, Sums]:
    found = row._mapping
    names = {field: found.get(f"group_{name}", "") for name, field in _SERIES_FIELDS.items()}
    sums: dict[str, Any] = {name: float(found[name]) if name == "audio_seconds" else int(found[name]) for name in _SUMS}
    return int(found["start"]), Series(**names | {"batch": bool(names["batch"])}), Sums(**sums)


async def _inserted(connection: AsyncConnection, records: Sequence[UsageRecord]) -> set[str]:
    """The ids of the records that were not there."""
    if not records:
        return set()
    statement = _insert(connection, usage_records).on_conflict_do_nothing(index_elements=["id"])
    rows = await connection.execute(statement.returning(usage_records.c.id), [_row(one) for one in records])
    return set(rows.scalars())


async def _count(records: Sequence[UsageRecord], width: int, connection: AsyncConnection) -> None:
    found = summed(records, width)
    if not found:
        return
    rows = [
        {
            "width": width, "start": start, "series": series.digest,
            **asdict(series), **asdict(sums),
        }
        for (start, series), sums in found.items()
    ]  # fmt: skip
    rows.sort(key=lambda row: (row["start"], row["series"]))
    statement = _insert(connection, usage_rollups)
    added = {name: usage_rollups.c[name] + statement.excluded[name] for name in _SUMS}
    await connection.execute(
        statement.on_conflict_do_update(index_elements=["width", "start", "series"], set_=added), rows
    )


def _insert(connection: AsyncConnection, table: Any) -> Any:
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    return dialect.insert(table)


def _row(record: UsageRecord) -> dict[str, Any]:
    values = {name: getattr(record, name) for name in record.__struct_fields__}
    values["at"] = values.pop("wall_at")
    return values
