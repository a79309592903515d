"""Batches in the ledger, as their owners see and change them."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Row, insert, select, update

from aibrix_extproc.adapters.ledger.database import Database
from aibrix_extproc.adapters.ledger.files import page_of
from aibrix_extproc.adapters.ledger.quotas import Quota, refuse_another_batch
from aibrix_extproc.adapters.ledger.schema import batch_inputs, batches
from aibrix_extproc.adapters.ledger.whole import whole
from aibrix_extproc.core.batches.lifecycle import TERMINAL, BatchStatus, sources_of
from aibrix_extproc.core.batches.records import BatchRecord
from aibrix_extproc.core.files.records import Segment
from aibrix_extproc.core.openai.contract.paging import Page

OWN_COLUMNS: Final = frozenset({"fence", "owner", "lease_until", "served_at", "enqueued_tokens"})  # of the worker
BATCH_COLUMNS: Final = tuple(column for column in batches.columns if column.name not in OWN_COLUMNS)


class BatchLedger:
    """Reads and writes batches; a caller sees its own."""

    def __init__(self, database: Database, quota: Quota) -> None:
        self._database = database
        self._quota = quota

    @whole
    async def add(self, record: BatchRecord, content: Sequence[Segment]) -> None:
        """Store a new batch and what it works on; the content stays when its file is deleted. Raises TooManyError."""
        values = {column.name: getattr(record, column.name) for column in BATCH_COLUMNS}
        rows = [
            {"batch_id": record.id, "number": number, "blob": one.blob, "size": one.size}
            for number, one in enumerate(content)
        ]
        async with self._database.write() as connection:
            if record.status not in TERMINAL:
                await refuse_another_batch(connection, record.caller, self._quota)
            await connection.execute(insert(batches).values(values | {"status": record.status.value}))
            if rows:
                await connection.execute(insert(batch_inputs), rows)

    @whole
    async def find(self, caller: str, batch_id: str) -> BatchRecord | None:
        """The caller's batch of that id."""
        query = select(*BATCH_COLUMNS).where(batches.c.id == batch_id, batches.c.caller == caller)
        rows = await self._database.rows(query)
        return batch_of(rows[0]) if rows else None

    @whole
    async def page(self, caller: str, page: Page) -> tuple[list[BatchRecord], bool] | None:
        """One page of the caller's batches and whether more follow; None if `after` names none of them."""
        query = select(*BATCH_COLUMNS).where(batches.c.caller == caller)
        async with self._database.read() as connection:
            rows = await page_of(connection, query, batches, caller, page)
        return None if rows is None else ([batch_of(row) for row in rows[: page.limit]], len(rows) > page.limit)

    @whole
    async def cancel(self, caller: str, batch_id: str, wall_now: float) -> None:
        """Ask for the end of a batch; one that has ended, or was asked before, stays as it is."""
        running = [status.value for status in sources_of(BatchStatus.CANCELLING)]
        change = update(batches).where(
            batches.c.id == batch_id, batches.c.caller == caller, batches.c.status.in_(running)
        )
        async with self._database.write() as connection:
            await connection.execute(change.values(status=BatchStatus.CANCELLING.value, cancelling_at=int(wall_now)))


def batch_of(row: Row[Any]) -> BatchRecord:
    """A row of the batches table as a value."""
    values = {column.name: row._mapping[column.name] for column in BATCH_COLUMNS}
    return BatchRecord(**values | {"status": BatchStatus(values["status"])})
