"""Models and adapters that requests wait for, over all gateways, and how long it took to serve them."""

from dataclasses import dataclass

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from aibrix_extproc.adapters.ledger.database import Database
from aibrix_extproc.adapters.ledger.schema_engines import demands
from aibrix_extproc.adapters.ledger.whole import whole


@dataclass(frozen=True, slots=True)
class Demand:
    """A model that requests wait for. Times are seconds of the database's clock."""

    model: str
    first_at: float
    last_at: float
    took_seconds: float | None  # to serve it, the last time


class DemandLedger:
    """One row for each model: however many gateways ask, it is one demand."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @whole
    async def ask(self, model: str) -> Demand:
        """A request waits for the model."""
        try:
            return await self._ask(model)
        except IntegrityError:  # another process has just made the row
            return await self._ask(model)

    async def _ask(self, model: str) -> Demand:
        columns = demands.c
        async with self._database.write() as connection:
            now = await self._database.now(connection)
            query = select(demands).where(columns.model == model).with_for_update()
            row = (await connection.execute(query)).first()
            if row is None:
                await connection.execute(insert(demands).values(model=model, first_at=now, last_at=now))
                return Demand(model, now, now, None)
            first = row.first_at or now
            values = {"first_at": first, "last_at": now}
            await connection.execute(update(demands).where(columns.model == model).values(values))
            return Demand(model, first, now, row.took_seconds)

    @whole
    async def open(self, seconds: float) -> list[Demand]:
        """Those that were asked for within so many seconds and are not met."""
        async with self._database.read() as connection:
            now = await self._database.now(connection)
            query = select(demands).where(demands.c.first_at > 0, demands.c.last_at >= now - seconds)
            rows = await connection.execute(query.order_by(demands.c.first_at))
            return [Demand(row.model, row.first_at, row.last_at, row.took_seconds) for row in rows]

    @whole
    async def meet(self, model: str) -> None:
        """The model is served now: how long that took is kept."""
        columns = demands.c
        async with self._database.write() as connection:
            now = await self._database.now(connection)
            values = {"took_seconds": now - columns.first_at, "first_at": 0.0}
            mine = columns.model == model, columns.first_at > 0
            await connection.execute(update(demands).where(*mine).values(values))

    @whole
    async def forget(self, seconds: float) -> None:
        """Drop what was asked for so long ago, so that names of the past take no room."""
        async with self._database.write() as connection:
            now = await self._database.now(connection)
            await connection.execute(delete(demands).where(demands.c.last_at < now - seconds))
