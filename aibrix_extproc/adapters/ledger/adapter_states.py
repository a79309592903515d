"""States of adapters on engines, written by the one process that reconciles."""

from collections.abc import Iterable
from typing import Final

import msgspec
from sqlalchemy import and_, delete, insert, select

from aibrix_extproc.adapters.ledger.database import Database
from aibrix_extproc.adapters.ledger.named_leases import NamedLease, fenced
from aibrix_extproc.adapters.ledger.schema_engines import adapter_states
from aibrix_extproc.adapters.ledger.whole import whole
from aibrix_extproc.core.operations.placed import AdapterState

_STATE: Final = msgspec.json.Decoder(AdapterState)


class AdapterStates:
    """Reads them for everybody, and writes them for the holder of the lease."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @whole
    async def all(self, adapter: str | None = None) -> list[AdapterState]:
        """Those of one adapter, or all, in a stable order."""
        query = select(adapter_states.c.state).order_by(adapter_states.c.adapter, adapter_states.c.identity)
        if adapter is not None:
            query = query.where(adapter_states.c.adapter == adapter)
        async with self._database.read() as connection:
            return [_STATE.decode(state) for (state,) in await connection.execute(query)]

    @whole
    async def write(
        self, lease: NamedLease, put: Iterable[AdapterState], removed: Iterable[tuple[str, str]] = ()
    ) -> None:
        """Store and remove states in one transaction. Raises LeaseLostError."""
        put = list(put)
        async with self._database.write() as connection:
            await fenced(connection, lease)
            for adapter, identity in (*removed, *((one.adapter, one.identity) for one in put)):
                mine = and_(adapter_states.c.adapter == adapter, adapter_states.c.identity == identity)
                await connection.execute(delete(adapter_states).where(mine))
            rows = [
                {"adapter": one.adapter, "identity": one.identity, "state": msgspec.json.encode(one).decode()}
                for one in put
            ]
            if rows:
                await connection.execute(insert(adapter_states), rows)
