"""What the metadata service has for control state: the feed, the operations of administrators, and the sweep."""

import random
import secrets
from collections.abc import Mapping

from aibrix_extproc.adapters.ledger.audit import AuditLedger
from aibrix_extproc.adapters.ledger.control import ControlLedger
from aibrix_extproc.adapters.ledger.database import Database
from aibrix_extproc.adapters.ledger.gateways import GatewayLedger
from aibrix_extproc.adapters.openai_http.call import Handler
from aibrix_extproc.adapters.openai_http.internal import InternalRoute
from aibrix_extproc.app.metadata.audit import AuditApi, audited
from aibrix_extproc.app.metadata.caller_api import MAX_CALLERS, CallerApi
from aibrix_extproc.app.metadata.control_feed import ControlFeed
from aibrix_extproc.app.metadata.control_records import Room
from aibrix_extproc.app.metadata.control_sweep import ControlSweep
from aibrix_extproc.app.metadata.cordon_api import CordonApi
from aibrix_extproc.app.metadata.key_api import MAX_KEYS, KeyApi
from aibrix_extproc.app.metadata.limit_api import MAX_LIMITS, LimitApi
from aibrix_extproc.core.control.rows import Section

_DAY_SECONDS = 86_400.0


class ControlService:
    """The ledgers of control state, and what stands on them."""

    def __init__(self, database: Database, audit_days: int) -> None:
        self.ledger = ControlLedger(database)
        self.gateways = GatewayLedger(database)
        self._audit = AuditLedger(database)
        self._clock = database.clock
        self._audit_seconds = audit_days * _DAY_SECONDS
        self.feed = ControlFeed(self.ledger, self.gateways)

    def handlers(self) -> Mapping[str, Handler]:
        """By operation id."""
        entropy = secrets.token_bytes
        return {
            **AuditApi(self._audit).handlers(),
            **CordonApi(self.ledger, self._clock, entropy).handlers(),
            **CallerApi(self.ledger, Room(self.ledger, Section.CALLERS, MAX_CALLERS), self._clock).handlers(),
            **KeyApi(self.ledger, Room(self.ledger, Section.KEYS, MAX_KEYS), self._clock, entropy).handlers(),
            **LimitApi(self.ledger, Room(self.ledger, Section.LIMITS, MAX_LIMITS)).handlers(),
        }

    def audited(self, handlers: Mapping[str, Handler]) -> dict[str, Handler]:
        """The handlers, with those recorded by which operators change something."""
        return audited(self._audit, handlers)

    def routes(self) -> Mapping[str, InternalRoute]:
        """Routes for gateways, by path."""
        return self.feed.routes()

    def sweep(self) -> ControlSweep:
        """The part that removes what is over."""
        return ControlSweep(self.ledger, self.gateways, self._audit, self._audit_seconds, self._clock, random.random)
