"""Takes usage records from gateways, and forgets old ones."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from aibrix_extproc.adapters.ledger.errors import CONTENT_ERRORS, DatabaseError
from aibrix_extproc.adapters.ledger.usage import UsageLedger
from aibrix_extproc.adapters.openai_http.internal import InternalReply, InternalRoute
from aibrix_extproc.app.parts.part import Part
from aibrix_extproc.core.access.usage import KIND, PATH, UsageFormatError, UsageRecord, records_in
from aibrix_extproc.core.access.usage_sums import DAY, HOUR
from aibrix_extproc.settings.usage import UsageSettings

logger = logging.getLogger(__name__)

_SWEEP_SECONDS: Final = 3_600.0
_AHEAD_SECONDS: Final = DAY  # a gateway whose clock is wrong by more is not believed
_UNAVAILABLE: Final = InternalReply(status=503)


class UsageInlet:
    """The route of usage records. `counted` gets how many were new, repeated and refused."""

    def __init__(
        self, ledger: UsageLedger, settings: UsageSettings, wall_clock: Callable[[], float],
        counted: Callable[[str, int], None],
    ) -> None:  # fmt: skip
        self._ledger = ledger
        self._settings = settings
        self._wall_clock = wall_clock
        self._counted = counted

    def routes(self) -> Mapping[str, InternalRoute]:
        """By path."""
        return {PATH: InternalRoute(KIND, self.take)}

    async def take(self, sender: str, content: bytes) -> InternalReply:
        """Store a batch. 200 means that each record is in the ledger, or is one that the ledger will never take."""
        try:
            records = records_in(content)
        except UsageFormatError as error:
            logger.error("usage records make no sense", extra={"sender": sender, "error": str(error)})
            return InternalReply(str(error).encode(), 400)
        good = [record for record in records if self._is_kept(record)]
        try:
            new = await self._ledger.add(good)
        except CONTENT_ERRORS as error:
            logger.exception("usage records cannot be stored", extra={"sender": sender})
            return InternalReply(type(error).__name__.encode(), 400)
        except (DatabaseError, OSError) as error:
            logger.warning("usage records wait for the database", extra={"sender": sender, "error": str(error)[:300]})
            return _UNAVAILABLE
        self._counted("new", new)
        self._counted("repeated", len(good) - new)
        self._counted("refused", len(records) - len(good))
        return InternalReply()

    def _is_kept(self, record: UsageRecord) -> bool:
        """Whether its time is believable, and not so old that it may have been here and forgotten."""
        now = self._wall_clock()
        return now - self._settings.keep_records_days * DAY < record.wall_at < now + _AHEAD_SECONDS

    async def sweep(self) -> int:
        """Forget what is old: how many rows."""
        now, own, count = self._wall_clock(), self._settings, 0
        while removed := await self._ledger.forget(now - own.keep_records_days * DAY):
            count += removed
        count += await self._ledger.forget_sums(HOUR, now - own.keep_hours_days * DAY)
        return count + await self._ledger.forget_sums(DAY, now - own.keep_days_days * DAY)


class UsageSweeper(Part):
    """Calls `sweep` every hour; replicas may do so at the same time."""

    name = "usage_sweeper"

    def __init__(self, sweep: Callable[[], Awaitable[int]]) -> None:
        self._sweep = sweep

    async def run(self) -> None:
        """Sweep until cancelled; a failure is logged, and the next round tries again."""
        while True:
            try:
                rows = await self._sweep()
                if rows:
                    logger.info("old usage records were removed", extra={"rows": rows})
            except (DatabaseError, OSError) as error:
                logger.warning("usage records could not be swept", extra={"error": str(error)[:300]})
            await asyncio.sleep(_SWEEP_SECONDS * (0.75 + random.random() / 2))
