"""Operation runs in one process: their handlers, and the part that works on them."""

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from aibrix_extproc.adapters.engineops.client import EngineOps
from aibrix_extproc.adapters.ledger.control import ControlLedger
from aibrix_extproc.adapters.ledger.database import Database
from aibrix_extproc.adapters.ledger.gateways import GatewayLedger
from aibrix_extproc.adapters.ledger.runs import RunLedger
from aibrix_extproc.adapters.openai_http.call import Handler
from aibrix_extproc.app.metadata.engine_fleet import EngineFleet
from aibrix_extproc.app.metadata.engine_list import EngineList
from aibrix_extproc.app.metadata.following import Followers
from aibrix_extproc.app.metadata.run_acts import RunActs
from aibrix_extproc.app.metadata.run_api import RunApi
from aibrix_extproc.app.metadata.run_cordons import RunCordons
from aibrix_extproc.app.metadata.run_executor import RunExecutor
from aibrix_extproc.core.fleet.model import Endpoint

CORDON_LEASES: Final = 4  # a cordon outlives its owner by so many leases, so that somebody can take the run over


class RunService:
    """Everything about runs. Without a fleet it only shows what was."""

    def __init__(
        self, database: Database, fleet: EngineFleet | None, client: EngineOps,
        tell: Callable[[Sequence[Endpoint]], Awaitable[None]], owner: str, lease_seconds: float,
    ) -> None:  # fmt: skip
        self._fleet = fleet
        self._ledger = RunLedger(database, owner, lease_seconds)
        cordon_seconds = CORDON_LEASES * lease_seconds
        self._acts = None
        self.executor = None
        if fleet is not None:
            cordons = RunCordons(ControlLedger(database), database.clock)
            reports = GatewayLedger(database).reports
            self._acts = RunActs(fleet, client, cordons, reports, tell, cordon_seconds)
            self.executor = RunExecutor(
                self._ledger, self._acts, database.clock, owner, lease_seconds, cordon_seconds
            )  # fmt: skip

    def handlers(self, followers: Followers) -> Mapping[str, Handler]:
        """The handlers of an API server, by operation id."""
        wake = _nothing if self.executor is None else self.executor.wake
        runs = RunApi(self._ledger, followers, self._fleet, self._acts, secrets.token_bytes, wake)
        return {**runs.handlers(), **EngineList(self._fleet, self._acts).handlers()}


def _nothing() -> None:
    """Another process works on runs, and looks for them by itself."""
