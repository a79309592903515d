"""Removes control state that is over: cordons past their end, old removals, reports of dead gateways, old audit."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from aibrix_extproc.adapters.ledger.audit import AuditLedger
from aibrix_extproc.adapters.ledger.control import ControlLedger, VersionConflictError
from aibrix_extproc.adapters.ledger.errors import DatabaseError
from aibrix_extproc.adapters.ledger.gateways import GatewayLedger
from aibrix_extproc.app.metadata.control_records import decoded
from aibrix_extproc.app.parts.part import Part
from aibrix_extproc.core.control.rows import Section
from aibrix_extproc.core.fleet.cordons import Cordon

logger = logging.getLogger(__name__)

SWEEP_SECONDS: Final = 60.0
REMOVED_SECONDS: Final = 86_400.0  # a gateway that did not follow for so long reads everything again
_PAGE: Final = 500


class ControlSweep(Part):
    """Every process of the service does it; each step is harmless if another one has done it."""

    name = "control_sweep"

    def __init__(
        self, control: ControlLedger, gateways: GatewayLedger, audit: AuditLedger, audit_seconds: float,
        wall_clock: Callable[[], float], pause: Callable[[], float],
    ) -> None:  # fmt: skip
        """`pause`: 0 to 1 at random, so that processes do not sweep at the same moment."""
        self._control = control
        self._gateways = gateways
        self._audit = audit
        self._audit_seconds = audit_seconds
        self._wall_clock = wall_clock
        self._pause = pause

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS * (0.5 + self._pause()))
            try:
                await self.sweep()
            except (DatabaseError, OSError) as error:
                logger.warning("control state was not swept", extra={"error": repr(error)[:300]})

    async def sweep(self) -> None:
        """One sweep. Raises DatabaseError."""
        await self._end_cordons()
        await self._control.forget_removed(REMOVED_SECONDS)
        await self._gateways.forget()
        await self._audit.forget(self._audit_seconds)

    async def _end_cordons(self) -> None:
        now, after, more = self._wall_clock(), None, True
        while more:
            rows, more = await self._control.page(Section.CORDONS, after, _PAGE)
            for row in rows:
                if decoded(row, Cordon).is_over(now):
                    try:
                        await self._control.delete(Section.CORDONS, row.id, expect_version=row.version)
                    except VersionConflictError:  # it was prolonged at this moment
                        continue
            after = rows[-1].id if rows else None
