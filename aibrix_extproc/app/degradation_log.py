"""Logs what strategies lack, each lack once."""

import logging

from aibrix_extproc.core.exchange.outputs import Finished

logger = logging.getLogger(__name__)


class DegradationLog:
    """As many lines as there are strategies times reasons; `aibrix_extproc_degraded_total` counts the placements."""

    def __init__(self) -> None:
        self._told: set[tuple[str, str]] = set()

    def finished(self, fact: Finished) -> None:
        """Log what the placement of an exchange lacked, if no placement before did."""
        if fact.placement is None or not fact.placement.degraded:
            return
        for strategy, reason in fact.placement.degraded:
            if (strategy, reason) not in self._told:
                self._told.add((strategy, reason))
                logger.warning(
                    "a strategy lacks something; our own counts stand in",
                    extra={"strategy": strategy, "reason": reason, "model": fact.placement.model},
                )
