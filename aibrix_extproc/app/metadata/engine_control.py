"""Desired adapters, and sleep and wake: the handlers of their interface, and the part that does the work."""

import os
import socket
from collections.abc import Mapping

from aibrix_extproc.adapters.engineops.client import EngineOps
from aibrix_extproc.adapters.ledger.adapter_states import AdapterStates
from aibrix_extproc.adapters.ledger.control import ControlLedger
from aibrix_extproc.adapters.ledger.database import Database
from aibrix_extproc.adapters.ledger.demands import DemandLedger
from aibrix_extproc.adapters.ledger.gateways import GatewayLedger
from aibrix_extproc.adapters.ledger.named_leases import NamedLeases
from aibrix_extproc.adapters.openai_http.call import Handler
from aibrix_extproc.adapters.openai_http.internal import InternalRoute
from aibrix_extproc.app.metadata.adapter_api import AdapterApi
from aibrix_extproc.app.metadata.adapter_reconciler import AdapterReconciler
from aibrix_extproc.app.metadata.engine_fleet import EngineFleet
from aibrix_extproc.app.metadata.engine_news import EngineNews
from aibrix_extproc.app.metadata.engine_steps import EngineSteps
from aibrix_extproc.app.metadata.engine_work import EngineWork
from aibrix_extproc.app.metadata.policy_api import PolicyApi
from aibrix_extproc.app.metadata.rest_keeper import RestKeeper
from aibrix_extproc.app.metadata.wake_route import WakeRoute
from aibrix_extproc.app.metadata.wants import Wants
from aibrix_extproc.app.parts.part import Part
from aibrix_extproc.settings import KubernetesSettings, Settings


class EngineControl:
    """Without a fleet nothing is done: records and demands are stored, and another process may act on them."""

    def __init__(
        self, settings: Settings, database: Database, fleet: EngineFleet | None, client: EngineOps, news: EngineNews
    ) -> None:
        own, kubernetes = settings.metadata, settings.kubernetes
        control, states, demands = ControlLedger(database), AdapterStates(database), DemandLedger(database)
        self._parts: list[Part] = []
        self._work: EngineWork | None = None
        if fleet is not None:
            wants, steps = Wants(control, demands), EngineSteps(client)
            adapters = AdapterReconciler(
                fleet, wants, states, steps, news.tell, database.clock, self._wake,
                capacity=own.max_adapters_per_engine or None,
            )  # fmt: skip
            rest = RestKeeper(
                fleet, wants, control, GatewayLedger(database), steps, news.tell, database.clock, self._wake
            )
            leases = NamedLeases(database, f"{socket.gethostname()}-{os.getpid()}", own.lease_seconds)
            self._work = EngineWork(leases, wants, adapters, rest)
            fleet.store.subscribe(self._work.wake)
            self._parts.append(self._work)
            if kubernetes.enabled and kubernetes.follow_model_adapters:
                self._parts.append(_followed(kubernetes, control, states, self._work))
        snapshot = (lambda: None) if fleet is None else (lambda: fleet.snapshot)
        self._adapters = AdapterApi(
            control, states, snapshot, database.clock, self._wake, declares=kubernetes.follow_model_adapters
        )
        self._policies = PolicyApi(control, self._wake)
        self._demands = WakeRoute(control, demands, self._wake)

    def handlers(self) -> Mapping[str, Handler]:
        """The admin interface."""
        return {**self._adapters.handlers(), **self._policies.handlers()}

    def routes(self) -> Mapping[str, InternalRoute]:
        """The routes that gateways ask."""
        return self._demands.routes()

    def parts(self) -> list[Part]:
        """The parts of a worker."""
        return self._parts

    def _wake(self) -> None:
        if self._work is not None:
            self._work.wake()


def _followed(settings: KubernetesSettings, control: ControlLedger, states: AdapterStates, work: EngineWork) -> Part:
    from aibrix_extproc.app.metadata.model_adapters import ModelAdapters  # needs an extra, which the fleet has found

    return ModelAdapters(settings, control, states, lambda: work.holds, work.wake)
