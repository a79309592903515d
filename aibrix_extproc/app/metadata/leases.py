"""Keeps a lease while work goes on, and ends the work when the lease is lost."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aibrix_extproc.adapters.ledger.errors import DatabaseError
from aibrix_extproc.adapters.ledger.work import LeaseLostError

logger = logging.getLogger(__name__)


class Lease:
    """A held lease. `alive` is exact enough to be asked before every send: it does not wait for the database."""

    def __init__(
        self, work: str, renew: Callable[[], Awaitable[bool]], lease_seconds: float, *, cancelled: bool
    ) -> None:
        """`renew` says whether the end of the work was asked for, and raises LeaseLostError. `work`: for the log."""
        self._work = work
        self._renew = renew
        self._seconds = lease_seconds
        self._until = time.monotonic() + lease_seconds
        self._asked = asyncio.Event()
        self.cancelled = cancelled  # whether the end of the work was asked for

    @property
    def alive(self) -> bool:
        """Whether nobody else can have taken the row."""
        return time.monotonic() < self._until

    async def keep(self) -> None:
        """Renew at a fifth of the lease. Raises LeaseLostError when it is lost or could not be renewed in time."""
        while True:
            await self._next_time()
            asked = time.monotonic()
            try:
                async with asyncio.timeout(self._seconds / 2):
                    self.cancelled = await self._renew()
                self._until = asked + self._seconds
            except (DatabaseError, OSError, TimeoutError) as error:
                logger.warning("lease was not renewed", extra={"work": self._work, "error": str(error)[:200]})
            if not self.alive:
                raise LeaseLostError

    def renew_soon(self) -> None:
        """The work may have been cancelled: look at once."""
        self._asked.set()

    async def _next_time(self) -> None:
        try:
            async with asyncio.timeout(self._seconds / 5):
                await self._asked.wait()
        except TimeoutError:
            pass
        self._asked.clear()


@asynccontextmanager
async def leased(
    work: str, renew: Callable[[], Awaitable[bool]], lease_seconds: float, *, cancelled: bool = False
) -> AsyncIterator[Lease]:
    """Hold the lease while the body runs; the body is cancelled, and LeaseLostError raised, when it is lost."""
    lease = Lease(work, renew, lease_seconds, cancelled=cancelled)
    try:
        async with asyncio.TaskGroup() as tasks:
            keeper = tasks.create_task(lease.keep())
            yield lease
            keeper.cancel()
    except BaseExceptionGroup as group:
        raise _cause(group) from None


def _cause(error: BaseException) -> BaseException:
    """The exception that ended the work: a lost lease before all others, which may follow from it."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    causes = [_cause(one) for one in error.exceptions]
    return next((one for one in causes if isinstance(one, LeaseLostError)), causes[0])
