"""Simulated engines with the fleet that polls them and the work on them, all in the loop of the test."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aibrix_extproc.adapters.engine.client import engine_session
from aibrix_extproc.adapters.engine.poller import EnginePoller
from aibrix_extproc.adapters.engine.watcher import PollPace
from aibrix_extproc.adapters.engineops.client import EngineOps
from aibrix_extproc.adapters.ledger.adapter_states import AdapterStates
from aibrix_extproc.adapters.ledger.control import ControlLedger
from aibrix_extproc.adapters.ledger.database import Database
from aibrix_extproc.adapters.ledger.demands import DemandLedger
from aibrix_extproc.adapters.ledger.gateways import GatewayLedger
from aibrix_extproc.adapters.ledger.named_leases import NamedLeases
from aibrix_extproc.app.fleet_store import FleetStore
from aibrix_extproc.app.metadata.adapter_reconciler import AdapterReconciler
from aibrix_extproc.app.metadata.engine_steps import EngineSteps
from aibrix_extproc.app.metadata.engine_work import EngineWork
from aibrix_extproc.app.metadata.rest_keeper import RestKeeper
from aibrix_extproc.app.metadata.wants import Wants
from aibrix_extproc.core.control.rows import Section
from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.fleet.reduce import Listed
from aibrix_extproc.core.operations.desired import DesiredAdapter
from aibrix_extproc.core.operations.placed import AdapterState, State
from aibrix_extproc.simulator.options import SimulatorOptions
from aibrix_extproc.simulator.server import Simulator
from tests.ports import free_port
from tests.waiting import until

SOURCE = "test"
PACE = PollPace(interval_seconds=0.2, retry_seconds=0.05, rest_seconds=0.1, soon_seconds=0.05, timeout_seconds=30.0)


class Engines:
    """Named simulators, and what works on them."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.control, self.states = ControlLedger(database), AdapterStates(database)
        self.demands = DemandLedger(database)
        self.store = FleetStore([SOURCE])
        self.running: dict[str, Simulator] = {}
        self.told: list[str] = []
        self._parts: list[EngineWork] = []
        self._poller = EnginePoller(lambda: self.store.askable, self.store.apply, pace=PACE)
        self.store.subscribe_given(self._poller.wake)

    def wake(self) -> None:
        for one in self._parts:
            one.wake()

    @property
    def snapshot(self) -> Any:
        return self.store.snapshot

    async def start(self, *names: str, model: str = "llama", **options: Any) -> None:
        """Start engines; one of a name that had been started comes back on its port, without its adapters."""
        for name in names:
            port = self.running[name].port if name in self.running else free_port()
            one = Simulator(SimulatorOptions(port=port, models=(model,), **options))
            await one.start()
            self.running[name] = one
        self.list()

    async def stop(self, *names: str) -> None:
        for name in names:
            await self.running[name].stop()

    def list(self, *names: str) -> None:
        """Tell the fleet of these engines; of all without names."""
        chosen = names or tuple(self.running)
        self.store.apply(Listed(SOURCE, tuple(self._endpoint(name) for name in chosen)))

    def _endpoint(self, name: str) -> Endpoint:
        return Endpoint(name, f"127.0.0.1:{self.running[name].port}", name=name)

    def adapters(self, name: str) -> set[str]:
        return {one.name for one in self.running[name].engine.models.adapters}

    def holders(self, adapter: str) -> set[str]:
        return {name for name in self.running if adapter in self.adapters(name)}

    def calls(self, name: str, path: str) -> int:
        return len(self.running[name].app.recorder.recent(path, None))

    async def want(self, adapter: DesiredAdapter) -> None:
        await self.control.put(Section.ADAPTERS, adapter.name, adapter)

    async def drop(self, adapter: str) -> None:
        await self.control.delete(Section.ADAPTERS, adapter)

    async def state(self, adapter: str) -> dict[str, AdapterState]:
        return {one.identity: one for one in await self.states.all(adapter)}

    async def wait_loaded(self, adapter: str, *names: str) -> None:
        """Until these engines and no others have it, and are known to."""

        async def loaded() -> bool:
            found = await self.state(adapter)
            known = {name for name, one in found.items() if one.state is State.LOADED}
            return self.holders(adapter) == set(names) == known

        await until(loaded, lambda: f"{adapter} on {names}: {self.holders(adapter)}")

    async def tell(self, endpoints: Sequence[Endpoint]) -> None:
        for one in endpoints:
            self.told.append(one.identity)
            self._poller.renew(one.identity)

    def work(self, session: Any, owner: str = "one", *, lease_seconds: float = 30.0, **options: Any) -> EngineWork:
        """The part, not running yet."""
        wants = Wants(self.control, self.demands)
        steps = EngineSteps(EngineOps(session))
        clock = self.database.clock
        gateways = GatewayLedger(self.database)
        adapters = AdapterReconciler(self, wants, self.states, steps, self.tell, clock, self.wake, **options)
        rest = RestKeeper(self, wants, self.control, gateways, steps, self.tell, clock, self.wake)
        part = EngineWork(NamedLeases(self.database, owner, lease_seconds), wants, adapters, rest)
        self._parts.append(part)
        self.store.subscribe(part.wake)
        return part

    @asynccontextmanager
    async def working(self, owner: str = "one", **options: Any) -> AsyncIterator[EngineWork]:
        """The part at work; it ends as a killed process does not, with its lease released."""
        async with engine_session() as session:
            part = self.work(session, owner, **options)
            task = asyncio.create_task(part.run())
            try:
                yield part
            finally:
                task.cancel()
                await asyncio.wait([task])

    async def __aenter__(self) -> "Engines":
        self._polls = asyncio.create_task(self._poller.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._polls.cancel()
        await asyncio.wait([self._polls])
        for one in self.running.values():
            await one.stop()
