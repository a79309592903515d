"""A fenced lease by name: work that one process at a time does for the whole installation.

Taking the lease adds one to its fence. A change by the holder begins with `fenced`, which fails once the lease is lost,
so a holder that wakes up late writes nothing.
"""

from dataclasses import dataclass

from sqlalchemy import and_, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from aibrix_extproc.adapters.ledger.database import Database
from aibrix_extproc.adapters.ledger.schema_engines import leases
from aibrix_extproc.adapters.ledger.whole import whole
from aibrix_extproc.adapters.ledger.work import LeaseLostError


@dataclass(frozen=True, slots=True)
class NamedLease:
    """A lease that was taken."""

    name: str
    fence: int


class NamedLeases:
    """Takes, renews and releases leases. `owner` names this process in the rows, for people."""

    def __init__(self, database: Database, owner: str, lease_seconds: float) -> None:
        self._database = database
        self._owner = owner
        self.lease_seconds = lease_seconds

    @whole
    async def claim(self, name: str) -> NamedLease | None:
        """The lease, if nobody holds it."""
        try:
            async with self._database.write() as connection:
                return await self._claim(connection, name)
        except IntegrityError:  # another process has just made the row
            return None

    async def _claim(self, connection: AsyncConnection, name: str) -> NamedLease | None:
        now = await self._database.now(connection)
        held = {"owner": self._owner, "lease_until": now + self.lease_seconds}
        free = and_(leases.c.name == name, leases.c.lease_until < now)
        taken = update(leases).where(free).values(fence=leases.c.fence + 1, **held).returning(leases.c.fence)
        fence = (await connection.execute(taken)).scalar()
        if fence is not None:
            return NamedLease(name, int(fence))
        if (await connection.execute(select(leases.c.name).where(leases.c.name == name))).first() is not None:
            return None
        await connection.execute(insert(leases).values(name=name, fence=1, **held))
        return NamedLease(name, 1)

    @whole
    async def renew(self, lease: NamedLease) -> None:
        """Hold it for longer. Raises LeaseLostError."""
        async with self._database.write() as connection:
            await self._hold(connection, lease, self.lease_seconds)

    @whole
    async def release(self, lease: NamedLease) -> None:
        """Let others have it at once. Raises LeaseLostError."""
        async with self._database.write() as connection:
            await self._hold(connection, lease, -1.0)

    async def _hold(self, connection: AsyncConnection, lease: NamedLease, seconds: float) -> None:
        now = await self._database.now(connection)
        await fenced(connection, lease, {"lease_until": now + seconds})


async def fenced(connection: AsyncConnection, lease: NamedLease, values: dict[str, float] | None = None) -> None:
    """The first statement of a holder's change. Raises LeaseLostError; locks the row until the transaction ends."""
    mine = and_(leases.c.name == lease.name, leases.c.fence == lease.fence)
    changed = values or {"fence": lease.fence}
    if not (await connection.execute(update(leases).where(mine).values(changed))).rowcount:
        raise LeaseLostError
