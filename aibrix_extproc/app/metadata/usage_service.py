"""Usage in the metadata service: records in, questions out, old ones away."""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from aibrix_extproc.adapters.ledger.control import ControlLedger
from aibrix_extproc.adapters.ledger.database import Database
from aibrix_extproc.adapters.ledger.usage import UsageLedger
from aibrix_extproc.adapters.openai_http.call import Handler
from aibrix_extproc.adapters.openai_http.internal import InternalRoute
from aibrix_extproc.app.metadata.usage_api import PriceOf, UsageApi
from aibrix_extproc.app.metadata.usage_inlet import UsageInlet, UsageSweeper
from aibrix_extproc.app.parts.part import Part
from aibrix_extproc.core.access.limits.prices import PriceList
from aibrix_extproc.core.access.limits.records import LimitFormatError, PriceRecord, parse_record
from aibrix_extproc.core.control.rows import Section
from aibrix_extproc.settings.usage import UsageSettings

_ROWS_AT_ONCE: Final = 500


class UsageService:
    """Connects the ledger of usage with its routes and operations."""

    def __init__(self, database: Database, settings: UsageSettings, counted: Callable[[str, int], None]) -> None:
        ledger = UsageLedger(database)
        self._control = ControlLedger(database)
        self._inlet = UsageInlet(ledger, settings, database.clock, counted)
        self._api = UsageApi(ledger, self._prices, database.clock, settings.currency)

    def handlers(self) -> Mapping[str, Handler]:
        """By operation id."""
        return self._api.handlers()

    def routes(self) -> Mapping[str, InternalRoute]:
        """For our own processes, by path."""
        return self._inlet.routes()

    def sweeper(self) -> Part:
        """Forgets old records."""
        return UsageSweeper(self._inlet.sweep)

    async def _prices(self) -> PriceOf:
        """The prices that operators have set; a record that cannot be read is left out."""
        found: list[PriceRecord] = []
        after, more = None, True
        while more:
            rows, more = await self._control.page(Section.LIMITS, after, _ROWS_AT_ONCE)
            for row in rows:
                after = row.id
                record = _price(row.data)
                if record is not None:
                    found.append(record)
        return PriceList(found).of


def _price(data: msgspec.Raw | None) -> PriceRecord | None:
    try:
        record = None if data is None else parse_record(msgspec.json.decode(data))
    except (msgspec.DecodeError, LimitFormatError):
        return None
    return record if isinstance(record, PriceRecord) else None
