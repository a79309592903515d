"""Applies the cordons of the control state to the fleet, and ends those whose time is over."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from aibrix_extproc.app.fleet_store import FleetStore
from aibrix_extproc.app.parts.part import Meters, Part
from aibrix_extproc.core.control.state import Changes, View
from aibrix_extproc.core.fleet.cordons import NO_CORDONS, Cordon, Cordons
from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.fleet.reduce import Cordoned

logger = logging.getLogger(__name__)

LONGEST_WAIT_SECONDS: Final = 60.0  # a clock that was set is noticed after this


class CordonKeeper(Part):
    """The cordons of the moment."""

    name = "cordons"

    def __init__(
        self, view: View[Cordon], store: FleetStore, load: LoadBook, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._view = view
        self._store = store
        self._load = load
        self._wall_clock = wall_clock
        self._cordons = NO_CORDONS
        self._changed = asyncio.Event()
        view.subscribe(self._on_changes)

    def in_flight(self) -> dict[str, int]:
        """Exchanges of this process with each cordoned endpoint, by identity."""
        if not self._cordons:
            return {}
        return {
            one.identity: self._load.in_flight(one.identity) for one in self._store.snapshot.endpoints if one.cordon
        }

    async def run(self) -> None:
        """End cordons at their time, until cancelled."""
        while True:
            self._changed.clear()
            try:
                async with asyncio.timeout(self._seconds_left()):
                    await self._changed.wait()
            except TimeoutError:
                self._apply()

    def report(self) -> object:
        """The number of cordons."""
        return {"cordons": len(self._view.records), "endpoints": self._cordoned()}

    def register(self, metrics: Meters) -> None:
        """A gauge of the endpoints that are cordoned."""
        metrics.gauge("aibrix_extproc_endpoints_cordoned", self._cordoned)

    def _cordoned(self) -> int:
        return sum(bool(one.cordon) for one in self._store.snapshot.endpoints) if self._cordons else 0

    def _on_changes(self, _: Changes[Cordon]) -> None:
        self._apply()
        self._changed.set()

    def _apply(self) -> None:
        self._cordons = Cordons(self._view.records.values(), self._wall_clock())
        self._store.apply(Cordoned(self._cordons))

    def _seconds_left(self) -> float | None:
        """Until the next cordon ends; None while no cordon has an end."""
        end = self._cordons.wall_next_end
        return None if end is None else min(max(end - self._wall_clock(), 0.01), LONGEST_WAIT_SECONDS)
