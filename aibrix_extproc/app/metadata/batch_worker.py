"""Finds work of batches and does it, in one process among others."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

from aibrix_extproc.adapters.blobs.store import BlobError, BlobMissingError
from aibrix_extproc.adapters.ledger.errors import DatabaseError
from aibrix_extproc.adapters.ledger.work import BatchClaim, LeaseLostError, ShardClaim, WorkLedger
from aibrix_extproc.adapters.openai_http.call import ContentError
from aibrix_extproc.app.metadata.batch_steps import BatchSteps
from aibrix_extproc.app.metadata.leases import Lease, leased
from aibrix_extproc.app.metadata.reading import LostContentError
from aibrix_extproc.app.metadata.shard_runner import ShardRunner
from aibrix_extproc.app.parts.part import Part
from aibrix_extproc.core.batches.fairness import MOST_SHARDS, Kind, Places
from aibrix_extproc.core.batches.lifecycle import BatchStatus
from aibrix_extproc.http2.rate_limited_log import RateLimitedLog

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0  # how soon work of another process is found
FAILURE_SECONDS: Final = 5.0
_LOST: Final = (LostContentError, BlobMissingError)


class BatchWorker(Part):
    """Validates, runs and ends batches until cancelled.

    A step that is cancelled gives its lease back at once, and so does one that lost it: what somebody else has taken
    stays theirs. A step that fails keeps it until it ends by itself, so that work which fails again and again does not
    stand before all other.
    """

    name = "batch_worker"

    def __init__(self, ledger: WorkLedger, steps: BatchSteps, shards: ShardRunner, lease_seconds: float) -> None:
        self._ledger = ledger
        self._steps = steps
        self._shards = shards
        self._lease_seconds = lease_seconds
        self._woken = asyncio.Event()
        self._leases: set[Lease] = set()  # of these shards
        self._places = Places()
        self._asking = asyncio.Lock()
        self._failures = RateLimitedLog(logger, time.monotonic, 1)

    def wake(self) -> None:
        """A batch was made or cancelled."""
        self._woken.set()
        for lease in self._leases:
            lease.renew_soon()

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._forever(self._validate_one))
            tasks.create_task(self._forever(self._end_one))
            for _ in range(MOST_SHARDS):
                tasks.create_task(self._forever(self._run_one))

    async def _forever(self, step: Callable[[], Awaitable[bool]]) -> None:
        while True:
            try:
                worked = await step()
            except LeaseLostError:
                logger.warning("lease was lost, or its batch was cancelled: the work is left to whoever takes it next")
                worked = True
            except (DatabaseError, BlobError, ContentError, OSError, TimeoutError) as error:
                self._failures.warn("work of a batch failed, it is tried again", error=repr(error)[:300])
                await asyncio.sleep(FAILURE_SECONDS)
                continue
            except Exception:  # one batch that breaks us must not end the others
                logger.exception("work of a batch failed, it is tried again")
                await asyncio.sleep(FAILURE_SECONDS)
                continue
            if worked:
                self._woken.set()  # one step's end is another one's beginning
            else:
                await self._wait()

    async def _wait(self) -> None:
        self._woken.clear()
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await self._woken.wait()
        except TimeoutError:
            return

    async def _validate_one(self) -> bool:
        return await self._do_batch(await self._ledger.claim_new(), self._steps.validate)

    async def _end_one(self) -> bool:
        """What is cancelled asks nothing of engines, and does not wait for shards that do."""
        if await self._do_batch(await self._ledger.claim_ended(), self._steps.end):
            return True
        claim = await self._ledger.claim_shard(cancelled=True)
        return claim is not None and await self._run(claim)

    async def _do_batch(self, claim: BatchClaim | None, step: Callable[[BatchClaim], Awaitable[None]]) -> bool:
        if claim is None:
            return False
        try:
            async with self._leased(claim):
                try:
                    await step(claim)
                except _LOST:
                    if not await self._steps.gave_up(claim):
                        raise
        except (asyncio.CancelledError, LeaseLostError):
            await self._give_back(claim)
            raise
        return True

    async def _run_one(self) -> bool:
        claim, kind = await self._next_shard()
        try:
            return await self._run(claim)
        finally:
            self._places.leave(kind)

    async def _run(self, claim: ShardClaim) -> bool:
        try:
            async with self._leased(claim) as lease:
                self._leases.add(lease)
                try:
                    await self._shards.run(claim, lease)
                except _LOST:
                    if not await self._steps.gave_up(claim):
                        raise
                finally:
                    self._leases.discard(lease)
        except (asyncio.CancelledError, LeaseLostError):
            await self._give_back(claim)
            raise
        return True

    async def _next_shard(self) -> tuple[ShardClaim, Kind]:
        """The next shard that may run, in its place. Of the tasks without one, one at a time asks the database."""
        async with self._asking:
            while (claim := await self._ledger.claim_shard(without=self._places.full())) is None:
                await self._wait()
            kind = Kind(claim.batch.caller, claim.batch.model or "")
            self._places.take(kind)
            return claim, kind

    def _leased(self, claim: BatchClaim | ShardClaim) -> AbstractAsyncContextManager[Lease]:
        async def renew() -> bool:
            return await self._ledger.renew(claim) is BatchStatus.CANCELLING

        is_cancelled = claim.batch.status is BatchStatus.CANCELLING
        return leased(claim.batch.id, renew, self._lease_seconds, cancelled=is_cancelled)

    async def _give_back(self, claim: BatchClaim | ShardClaim) -> None:
        try:
            async with asyncio.timeout(FAILURE_SECONDS):
                await self._ledger.release(claim)
        except (LeaseLostError, DatabaseError, OSError, TimeoutError):
            return  # it ends by itself
