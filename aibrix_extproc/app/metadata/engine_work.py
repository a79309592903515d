"""The part that changes engines for the whole installation: adapters, sleep and wake. One process at a time does it."""

import asyncio
import logging
import time
from typing import Final

from aibrix_extproc.adapters.ledger.errors import DatabaseError
from aibrix_extproc.adapters.ledger.named_leases import NamedLeases
from aibrix_extproc.adapters.ledger.work import LeaseLostError
from aibrix_extproc.app.metadata.adapter_reconciler import AdapterReconciler
from aibrix_extproc.app.metadata.held_lease import HeldLease, holding
from aibrix_extproc.app.metadata.rest_keeper import RestKeeper
from aibrix_extproc.app.metadata.wants import Wants
from aibrix_extproc.app.parts.part import Part
from aibrix_extproc.http2.rate_limited_log import RateLimitedLog

logger = logging.getLogger(__name__)

LEASE: Final = "engine-work"
TICK_SECONDS: Final = 0.25  # between two looks at what is wanted; a change of the fleet is looked at sooner
SHORTEST_SECONDS: Final = 0.05
RETRY_SECONDS: Final = 1.0


class EngineWork(Part):
    """Plans and works while it holds the lease; waits for the lease otherwise."""

    name = "engine_work"

    def __init__(self, leases: NamedLeases, wants: Wants, adapters: AdapterReconciler, rest: RestKeeper) -> None:
        self._leases = leases
        self._wants = wants
        self._adapters = adapters
        self._rest = rest
        self._woken = asyncio.Event()
        self._failures = RateLimitedLog(logger, time.monotonic, 1)
        self.holds = False

    def wake(self, *_: object) -> None:
        """Starts a round now, because something has changed."""
        self._woken.set()

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            try:
                async with holding(self._leases, LEASE) as held:
                    if held is not None:
                        await self._work(*held)
            except LeaseLostError:
                logger.warning("the lease of the work on engines was lost")
            except (DatabaseError, OSError, TimeoutError) as error:
                self._failures.warn("no work on engines without the database", error=repr(error)[:300])
            finally:
                self.holds = False
            await asyncio.sleep(min(RETRY_SECONDS, self._leases.lease_seconds / 3))

    async def _work(self, lease: HeldLease, group: asyncio.TaskGroup) -> None:
        await self._adapters.start()
        await self._rest.start()
        self.holds = True
        while True:
            self._woken.clear()
            try:
                await self._wants.refresh()
                await self._adapters.tick(lease, group)
                await self._rest.tick(lease, group)
            except DatabaseError as error:
                logger.warning("work on engines waits for the database", extra={"error": repr(error)[:300]})
                await asyncio.sleep(RETRY_SECONDS)
            await asyncio.sleep(SHORTEST_SECONDS)
            try:
                async with asyncio.timeout(TICK_SECONDS):
                    await self._woken.wait()
            except TimeoutError:
                pass

    def report(self) -> object:
        """Whether this process does the work."""
        return {"holds_lease": self.holds}
