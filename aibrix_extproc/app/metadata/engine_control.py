"""Desired adapters, and sleep and wake: the handlers of their interface, and the part that does the work."""

import os
import socket
from collections.abc import Mapping

from aibrix_extproc.adapters.engineops.client import EngineOps
from aibrix_extproc.adapters.ledger.adapter_states import AdapterStates
from aibrix_extproc.adapters.ledger.control import ControlLedger
from aibrix_extproc.adapters.ledger.database import Database
from aibrix_extproc.adapters.ledger.demands import DemandLedger
from aibrix_extproc.adapters.ledger.named_leases import NamedLeases
from aibrix_extproc.adapters.openai_http.call import Handler
from aibrix_extproc.app.metadata.adapter_api import AdapterApi
from aibrix_extproc.app.metadata.adapter_reconciler import AdapterReconciler
from aibrix_extproc.app.metadata.engine_fleet import EngineFleet
from aibrix_extproc.app.metadata.engine_news import EngineNews
from aibrix_extproc.app.metadata.engine_steps import EngineSteps
from aibrix_extproc.app.metadata.engine_work import EngineWork
from aibrix_extproc.app.metadata.policy_api import PolicyApi
from aibrix_extproc.app.metadata.wants import Wants
from aibrix_extproc.settings.metadata import MetadataSettings


class EngineControl:
    """`work` is None without a fleet: records are stored, and another process may act on them."""

    def __init__(
        self, own: MetadataSettings, database: Database, fleet: EngineFleet | None, client: EngineOps, news: EngineNews
    ) -> None:
        control, states = ControlLedger(database), AdapterStates(database)
        self.work: EngineWork | None = None
        if fleet is not None:
            wants = Wants(control, DemandLedger(database))
            adapters = AdapterReconciler(
                fleet, wants, states, EngineSteps(client), news.tell, database.clock,
                capacity=own.max_adapters_per_engine or None,
            )  # fmt: skip
            leases = NamedLeases(database, f"{socket.gethostname()}-{os.getpid()}", own.lease_seconds)
            self.work = EngineWork(leases, wants, adapters)
            fleet.store.subscribe(self.work.wake)
        snapshot = (lambda: None) if fleet is None else (lambda: fleet.snapshot)
        self._adapters = AdapterApi(control, states, snapshot, database.clock, self._wake)
        self._policies = PolicyApi(control, self._wake)

    def handlers(self) -> Mapping[str, Handler]:
        """What an API server needs."""
        return {**self._adapters.handlers(), **self._policies.handlers()}

    def _wake(self) -> None:
        if self.work is not None:
            self.work.wake()
