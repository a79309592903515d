"""A lease that this process holds by name, renewed while work goes on."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from aibrix_extproc.adapters.ledger.errors import DatabaseError
from aibrix_extproc.adapters.ledger.named_leases import NamedLease, NamedLeases
from aibrix_extproc.adapters.ledger.work import LeaseLostError

logger = logging.getLogger(__name__)


@dataclass
class HeldLease:
    """`alive` is exact enough to be asked before every call to an engine: it does not wait for the database."""

    leases: NamedLeases
    lease: NamedLease
    until: float  # of the monotonic clock

    @property
    def alive(self) -> bool:
        """Whether nobody else can have taken it."""
        return time.monotonic() < self.until

    async def keep(self) -> None:
        """Renew at a fifth of the lease. Raises LeaseLostError when it is lost or could not be renewed in time."""
        seconds = self.leases.lease_seconds
        while True:
            await asyncio.sleep(seconds / 5)
            asked = time.monotonic()
            try:
                async with asyncio.timeout(seconds / 2):
                    await self.leases.renew(self.lease)
                self.until = asked + seconds
            except (DatabaseError, OSError, TimeoutError) as error:
                logger.warning("lease was not renewed", extra={"lease": self.lease.name, "error": str(error)[:200]})
            if not self.alive:
                raise LeaseLostError


@asynccontextmanager
async def holding(leases: NamedLeases, name: str) -> AsyncIterator[tuple[HeldLease, asyncio.TaskGroup] | None]:
    """The lease, and a group for the tasks under it, which end with it; None if somebody else has it.

    Raises DatabaseError, and LeaseLostError when the lease is lost meanwhile.
    """
    asked = time.monotonic()
    lease = await leases.claim(name)
    if lease is None:
        yield None
        return
    held = HeldLease(leases, lease, asked + leases.lease_seconds)
    try:
        async with asyncio.TaskGroup() as group:
            keeper = group.create_task(held.keep())
            try:
                yield held, group
            finally:
                keeper.cancel()
    except BaseExceptionGroup as errors:
        raise _cause(errors) from None
    finally:
        await _released(leases, lease)


async def _released(leases: NamedLeases, lease: NamedLease) -> None:
    """Let others have it at once; if that fails, they have it after its time."""
    with suppress(LeaseLostError, DatabaseError, OSError):
        await leases.release(lease)


def _cause(error: BaseException) -> BaseException:
    """The exception that ended the work: a lost lease before all others, which may follow from it."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    causes = [_cause(one) for one in error.exceptions]
    return next((one for one in causes if isinstance(one, LeaseLostError)), causes[0])
