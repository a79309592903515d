"""Finds operation runs and works on them, in one process among others."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from aibrix_extproc.adapters.ledger.errors import STATEMENT_ERRORS, DatabaseError
from aibrix_extproc.adapters.ledger.runs import RunClaim, RunLedger
from aibrix_extproc.adapters.ledger.work import LeaseLostError
from aibrix_extproc.app.metadata.leases import Lease, leased
from aibrix_extproc.app.metadata.run_acts import RunActs
from aibrix_extproc.app.metadata.run_worker import RunWorker, Save
from aibrix_extproc.app.parts.part import Part
from aibrix_extproc.core.operations.records import Note, Run
from aibrix_extproc.http2.rate_limited_log import RateLimitedLog

logger = logging.getLogger(__name__)

RUNS_AT_ONCE: Final = 8
LOOK_SECONDS: Final = 1.0  # how soon a run that another process took in, or left, is found
FAILURE_SECONDS: Final = 5.0
SAVE_SECONDS: Final = 0.5
FORGET_SECONDS: Final = 3600.0
KEEP_SECONDS: Final = 90 * 24 * 3600.0
KEEP_RUNS: Final = 10_000


class RunExecutor(Part):
    """Works on runs until cancelled. What fails here is taken up again, as after the death of a process."""

    name = "operations"

    def __init__(
        self, ledger: RunLedger, acts: RunActs, clock: Callable[[], float], owner: str, lease_seconds: float,
        cordon_seconds: float,
    ) -> None:  # fmt: skip
        self._ledger = ledger
        self._acts = acts
        self._clock = clock
        self._owner = owner
        self._lease_seconds = lease_seconds
        self._cordon_seconds = cordon_seconds
        self._woken = asyncio.Event()
        self._leases: set[Lease] = set()
        self._failures = RateLimitedLog(logger, time.monotonic, 1)

    def wake(self) -> None:
        """A run was asked for, or its end."""
        self._woken.set()
        for lease in self._leases:
            lease.renew_soon()

    async def run(self) -> None:
        """Work until cancelled."""
        slots = asyncio.Semaphore(RUNS_AT_ONCE)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._forget())
            while True:
                await slots.acquire()
                claim = await self._next()
                tasks.create_task(self._until_it_ends(claim)).add_done_callback(lambda _: slots.release())

    def report(self) -> Mapping[str, int]:
        """The number of runs that this process works on."""
        return {"running": len(self._leases)}

    async def _next(self) -> RunClaim:
        """Wait for a run whose turn it is."""
        while True:
            self._woken.clear()
            try:
                claim = await self._ledger.claim()
            except (DatabaseError, OSError, TimeoutError) as error:
                self._failures.warn("operations cannot be looked for", error=repr(error)[:300])
            else:
                if claim is not None:
                    return claim
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def _until_it_ends(self, claim: RunClaim) -> None:
        """Work on a run. Whatever fails, its lease is given back after a pause, and somebody goes on."""
        try:
            await self._work(claim)
        except LeaseLostError:
            logger.warning("lease of an operation was lost: it is left to whoever takes it next")
        except Exception:  # one run that breaks us must not end the others
            logger.exception("work on an operation failed, it is tried again")
            await asyncio.sleep(FAILURE_SECONDS)
        finally:
            await self._give_back(claim)
        self._woken.set()  # the end of one run is the turn of the next

    async def _work(self, claim: RunClaim) -> None:
        worker = RunWorker(claim.run, self._acts, self._saving(claim), self._clock, self._owner, self._cordon_seconds)
        renew, was_cancelled = partial(self._ledger.renew, claim), claim.run.cancel_asked
        async with leased(claim.run.id, renew, self._lease_seconds, cancelled=was_cancelled) as lease:
            self._leases.add(lease)
            try:
                await worker.work(lambda: lease.cancelled, resumed=claim.resumed)
            finally:
                self._leases.discard(lease)
        logger.info("operation has ended", extra={"run": claim.run.id, "status": worker.run.status.value})

    def _saving(self, claim: RunClaim) -> Save:
        """Store, again and again while the database fails: the end of the lease ends that."""

        async def save(run: Run, changed: Sequence[int], notes: Sequence[Note]) -> None:
            while True:
                try:
                    return await self._ledger.save(claim, run, changed, notes)
                except STATEMENT_ERRORS:  # a bug of ours
                    raise
                except (DatabaseError, OSError, TimeoutError) as error:
                    logger.warning("an operation cannot be stored, it is tried again: %s", repr(error)[:300])
                    await asyncio.sleep(SAVE_SECONDS)

        return save

    async def _give_back(self, claim: RunClaim) -> None:
        try:
            async with asyncio.timeout(FAILURE_SECONDS):
                await self._ledger.release(claim)
        except (LeaseLostError, DatabaseError, OSError, TimeoutError):
            return  # it has ended, or ends by itself

    async def _forget(self) -> None:
        while True:
            try:
                await self._ledger.forget_ended(self._clock() - KEEP_SECONDS, KEEP_RUNS)
            except (DatabaseError, OSError, TimeoutError) as error:
                logger.warning("old operations could not be removed", extra={"error": repr(error)[:300]})
            await asyncio.sleep(FORGET_SECONDS)
