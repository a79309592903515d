"""Cordons of operation runs: rows of the control state, with an end that their process moves on while it lives."""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from aibrix_extproc.adapters.ledger.control import ControlLedger
from aibrix_extproc.core.control.rows import Section
from aibrix_extproc.core.fleet.cordons import Cordon, Cordons
from aibrix_extproc.core.fleet.model import Snapshot

_PAGE: Final = 1000
_DECODE: Final = msgspec.json.Decoder(Cordon).decode


class RunCordons:
    """Writes the cordons of runs, and reads those of everybody. `wall_clock`: the database's."""

    def __init__(self, ledger: ControlLedger, wall_clock: Callable[[], float]) -> None:
        self._ledger = ledger
        self._wall_clock = wall_clock
        self._version: tuple[str, int] | None = None  # of the control state that `_cordons` was read from
        self._rows: tuple[tuple[Cordon, int], ...] = ()

    async def put(self, cordon_id: str, identity: str, run_id: str, life_seconds: float) -> int:
        """Begin or prolong a cordon; the version of its row."""
        now = self._wall_clock()
        cordon = Cordon(identity=identity, owner=run_id, wall_created_at=now, wall_expires_at=now + life_seconds)
        return (await self._ledger.put(Section.CORDONS, cordon_id, cordon)).version

    async def remove(self, cordon_id: str) -> None:
        """End a cordon; one that has ended stays so."""
        await self._ledger.delete(Section.CORDONS, cordon_id)

    async def lives(self, cordon_id: str) -> bool:
        """Whether it is in force."""
        row = await self._ledger.get(Section.CORDONS, cordon_id)
        return row is not None and row.data is not None and not _DECODE(row.data).is_over(self._wall_clock())

    async def cordoned(self, fleet: Snapshot) -> Mapping[str, int]:
        """The endpoints that a cordon keeps from requests, whoever made it: by identity the version of its row."""
        version = await self._ledger.version()
        if version != self._version:
            self._rows, self._version = await self._all(), version
        cordons = Cordons((cordon for cordon, _ in self._rows), self._wall_clock())
        if not cordons:
            return {}
        versions = {id(cordon): version for cordon, version in self._rows}
        found = ((one.identity, cordons.of(one)) for one in fleet.endpoints)
        return {identity: versions[id(cordon)] for identity, cordon in found if cordon is not None}

    async def _all(self) -> tuple[tuple[Cordon, int], ...]:
        found: list[tuple[Cordon, int]] = []
        after, more = None, True
        while more:
            rows, more = await self._ledger.page(Section.CORDONS, after, _PAGE)
            found += [(_DECODE(row.data), row.version) for row in rows if row.data is not None]
            after = rows[-1].id if rows else None
        return tuple(found)
