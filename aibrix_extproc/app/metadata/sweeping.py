"""Removes what has expired, and blobs that no object refers to; marks files whose blobs are not there.

Every step is one conditional transaction, so replicas may sweep at the same time.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from aibrix_extproc.adapters.blobs.store import BlobError, BlobStore
from aibrix_extproc.adapters.ledger.errors import DatabaseError
from aibrix_extproc.adapters.ledger.files import FileLedger
from aibrix_extproc.adapters.ledger.quotas import QuotaLedger
from aibrix_extproc.adapters.ledger.uploads import UploadLedger
from aibrix_extproc.app.metadata.receiving import remove_quietly
from aibrix_extproc.app.parts.part import Meters, Part

logger = logging.getLogger(__name__)

_LOOKED_UP_AT_ONCE: Final = 200
_KEEP_ENDED_UPLOADS_SECONDS: Final = 86_400
CONTENTS_AT_ONCE: Final = 500  # of files, looked for in one round; the next round goes on behind them


@dataclass(frozen=True, slots=True)
class Swept:
    """What one round has removed."""

    files: int
    uploads: int
    orphans: int
    lost: int  # files marked, not removed


@dataclass
class Sweeper(Part):
    """Sweeps at an interval, in seconds."""

    name = "sweeper"

    files: FileLedger
    uploads: UploadLedger
    quotas: QuotaLedger
    blobs: BlobStore
    prefixes: tuple[str, ...]
    interval_seconds: float
    orphan_seconds: float
    wall_clock: Callable[[], float]
    jitter: Callable[[], float]  # from 0 to 1, so that replicas do not sweep in step
    _looked_up_to: str = ""  # the blob of a file that was looked for last
    _fullest: Mapping[str, float] = field(default_factory=dict)  # share of each bound of a caller

    def register(self, metrics: Meters) -> None:
        """Add how near the callers are to their bounds."""
        metrics.gauges("aibrix_metadata_quota_used", lambda: list(self._fullest.items()))

    async def run(self) -> None:
        """Sweep until cancelled; a failure is logged, and the next round tries again."""
        while True:
            try:
                swept = await self.sweep()
                if swept != Swept(0, 0, 0, 0):
                    counts = {
                        "files": swept.files,
                        "uploads": swept.uploads,
                        "orphans": swept.orphans,
                        "lost": swept.lost,
                    }
                    logger.info("swept", extra=counts)
            except (DatabaseError, BlobError, OSError) as error:
                logger.warning("sweep failed", extra={"error": str(error)[:300]})
            await asyncio.sleep(self.interval_seconds * (0.75 + self.jitter() / 2))

    async def sweep(self) -> Swept:
        """One round."""
        now = self.wall_clock()
        files = await self._drain(lambda: self.files.delete_expired(now))
        uploads = await self._drain(lambda: self.uploads.expire(now))
        await self.uploads.forget(now - _KEEP_ENDED_UPLOADS_SECONDS)
        self._fullest = await self.quotas.fullest(now)
        return Swept(files, uploads, await self._remove_orphans(now), await self._mark_lost())

    async def _drain(self, step: Callable[[], Awaitable[list[str] | None]]) -> int:
        """Repeat a step that removes one object and returns its blobs, until there is none left."""
        count = 0
        while (blobs := await step()) is not None:
            await remove_quietly(self.blobs, blobs)
            count += 1
        return count

    async def _remove_orphans(self, wall_now: float) -> int:
        count, old = 0, []
        for prefix in self.prefixes:
            async for key, written_at in self.blobs.listed(prefix):
                if wall_now - written_at < self.orphan_seconds:
                    continue
                old.append(key)
                if len(old) >= _LOOKED_UP_AT_ONCE:
                    count += await self._remove_unreferenced(old)
                    old = []
        return count + await self._remove_unreferenced(old)

    async def _remove_unreferenced(self, keys: list[str]) -> int:
        used = await self.files.referenced(keys)
        orphans = [key for key in keys if key not in used]
        await self.blobs.delete(orphans)
        return len(orphans)

    async def _mark_lost(self) -> int:
        """Look for the blobs of some files. A file that was lost and is whole again counts as it did before."""
        rows = await self.files.contents_after(self._looked_up_to, CONTENTS_AT_ONCE)
        self._looked_up_to = rows[-1][0] if len(rows) == CONTENTS_AT_ONCE else ""
        lost = {file for blob, file, was_lost in rows if not was_lost and not await self.blobs.exists(blob)}
        for file in lost:
            logger.error("content of a file is lost", extra={"file": file})
            await self.files.mark(file, lost=True)
        for file in {file for _, file, was_lost in rows if was_lost}:
            if all([await self.blobs.exists(one.blob) for one in await self.files.segments(file)]):
                logger.warning("lost content of a file is back", extra={"file": file})
                await self.files.mark(file, lost=False)
        return len(lost)
