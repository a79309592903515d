"""Tells this process and every gateway which engines were changed, so that they are asked at once."""

import logging
from collections.abc import Callable, Sequence

import msgspec

from aibrix_extproc.adapters.ledger.control import ControlLedger
from aibrix_extproc.adapters.ledger.errors import DatabaseError
from aibrix_extproc.core.control.rows import Section
from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.fleet.news import KEEP_SECONDS, MAX_IDENTITIES, EnginesChanged

logger = logging.getLogger(__name__)


class EngineNews:
    """Writes records of the control section `news`, and removes those that have become old."""

    def __init__(
        self,
        ledger: ControlLedger,
        renew: Callable[[str], None],
        new_id: Callable[[], str],
        wall_clock: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._renew = renew
        self._new_id = new_id
        self._wall_clock = wall_clock

    async def tell(self, endpoints: Sequence[Endpoint]) -> None:
        """These engines may be changed. A database that fails delays the news: gateways poll engines anyway."""
        identities = [one.identity for one in endpoints]
        for identity in identities:
            self._renew(identity)
        try:
            for start in range(0, len(identities), MAX_IDENTITIES):
                part = tuple(identities[start : start + MAX_IDENTITIES])
                await self._ledger.put(Section.NEWS, self._new_id(), EnginesChanged(part, self._wall_clock()))
            await self._forget_old()
        except DatabaseError as error:
            logger.warning("gateways notice changed engines by polls only", extra={"error": repr(error)[:300]})

    async def _forget_old(self) -> None:
        rows, _ = await self._ledger.page(Section.NEWS, None, 100)
        before = self._wall_clock() - KEEP_SECONDS
        for row in rows:
            if row.data is not None and msgspec.json.decode(row.data, type=EnginesChanged).wall_at < before:
                await self._ledger.delete(Section.NEWS, row.id)
