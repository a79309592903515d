"""The audit in the ledger: who changed what, when, and with which result."""

from typing import Any, Final

import msgspec
from sqlalchemy import delete, insert, select, update

from aibrix_extproc.adapters.ledger.database import Database
from aibrix_extproc.adapters.ledger.schema import audit
from aibrix_extproc.adapters.ledger.whole import whole

MAX_TARGET: Final = 4_000  # characters of its JSON; a longer one is stored as its beginning
STARTED: Final = "started"  # of an action whose end was not recorded: it runs, or its process died


class AuditEntry(msgspec.Struct, frozen=True):
    """One attempt to change something."""

    id: int
    at: float  # the database's clock
    caller: str
    key_id: str
    operation: str
    target: msgspec.Raw  # a JSON object: what it was about
    result: str  # `started`, `ok`, or the key of a row of ERRORS
    request_id: str


class AuditLedger:
    """Writes and reads the audit."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @whole
    async def begin(self, caller: str, key_id: str, operation: str, target: object, request_id: str) -> int:
        """Record that an action starts: the id of its entry."""
        async with self._database.write() as connection:
            values = {
                "at": await self._database.now(connection), "caller": caller, "key_id": key_id, "operation": operation,
                "target": _target(target), "result": STARTED, "request_id": request_id[:128],
            }  # fmt: skip
            done = await connection.execute(insert(audit).values(values).returning(audit.c.id))
            return int(done.scalar_one())

    @whole
    async def end(self, entry: int, target: object, result: str) -> None:
        """Record how an action ended."""
        async with self._database.write() as connection:
            values = {"target": _target(target), "result": result[:64]}
            await connection.execute(update(audit).where(audit.c.id == entry).values(values))

    @whole
    async def page(
        self, *, before: int | None, limit: int, caller: str | None = None, operation: str | None = None
    ) -> tuple[list[AuditEntry], bool]:
        """Entries, the newest first, from behind the one with the id `before`; and whether more follow."""
        query = select(audit).order_by(audit.c.id.desc()).limit(limit + 1)
        for column, value in ((audit.c.caller, caller), (audit.c.operation, operation)):
            query = query if value is None else query.where(column == value)
        if before is not None:
            query = query.where(audit.c.id < before)
        async with self._database.read() as connection:
            found = (await connection.execute(query)).all()
        return [_entry(row) for row in found[:limit]], len(found) > limit

    @whole
    async def forget(self, age_seconds: float) -> int:
        """Remove entries that are so old: how many."""
        async with self._database.write() as connection:
            before = await self._database.now(connection) - age_seconds
            return (await connection.execute(delete(audit).where(audit.c.at < before))).rowcount


def _target(target: object) -> str:
    text = msgspec.json.encode(target).decode()
    return text if len(text) <= MAX_TARGET else msgspec.json.encode({"cut": text[: MAX_TARGET // 2]}).decode()


def _entry(row: Any) -> AuditEntry:
    values = row._mapping
    return AuditEntry(**{**values, "target": msgspec.Raw(values["target"].encode())})
