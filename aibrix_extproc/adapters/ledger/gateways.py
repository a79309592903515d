"""The last report of every gateway process, by its replica's name."""

import json
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import delete, select
from sqlalchemy.dialects import postgresql, sqlite

from aibrix_extproc.adapters.ledger.database import Database
from aibrix_extproc.adapters.ledger.schema import gateways
from aibrix_extproc.adapters.ledger.whole import whole
from aibrix_extproc.core.control.feed import Report
from aibrix_extproc.core.operations.draining import GatewayReport

FORGET_SECONDS: Final = 3600.0


class GatewayLedger:
    """Writes and reads reports. Ages are by the database's clock."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @whole
    async def store(self, reports: Mapping[str, Report]) -> None:
        """Store reports over the last ones of their replicas."""
        dialect = sqlite if self._database.is_sqlite else postgresql
        async with self._database.write() as connection:
            now = await self._database.now(connection)
            rows = [
                {
                    "replica": replica, "applied_version": one.applied_version, "seen_at": now,
                    "report": json.dumps({"in_flight": one.in_flight, "usage": one.usage}),
                }
                for replica, one in sorted(reports.items())
            ]  # fmt: skip
            statement: Any = dialect.insert(gateways).values(rows)
            changed = {name: statement.excluded[name] for name in ("applied_version", "report", "seen_at")}
            await connection.execute(statement.on_conflict_do_update(index_elements=["replica"], set_=changed))

    @whole
    async def reports(self) -> list[GatewayReport]:
        """The last report of each gateway that has reported within the hour."""
        async with self._database.read() as connection:
            now = await self._database.now(connection)
            rows = await connection.execute(select(gateways).where(gateways.c.seen_at > now - FORGET_SECONDS))
            return [_report(row, now) for row in rows]

    @whole
    async def forget(self) -> int:
        """Remove reports of gateways that are gone for an hour: how many."""
        async with self._database.write() as connection:
            now = await self._database.now(connection)
            old = gateways.c.seen_at <= now - FORGET_SECONDS
            return (await connection.execute(delete(gateways).where(old))).rowcount


def _report(row: Any, now: float) -> GatewayReport:
    found = json.loads(row.report)
    if "usage" not in found:  # of a process that does not know it
        return GatewayReport(row.replica, row.applied_version, found, max(now - row.seen_at, 0.0))
    usage = {identity: (int(count), float(idle)) for identity, (count, idle) in found["usage"].items()}
    return GatewayReport(row.replica, row.applied_version, found["in_flight"], max(now - row.seen_at, 0.0), usage)
