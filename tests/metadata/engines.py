"""What runs need around them, in one process: simulated engines, a fleet that sees them, cordons and gateways."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from aibrix_extproc.adapters.engineops.client import EngineOps
from aibrix_extproc.app.metadata.run_acts import RunActs
from aibrix_extproc.core.fleet.model import Endpoint, Health, ServedModel, Snapshot, snapshot_of
from aibrix_extproc.core.operations.draining import GatewayReport
from aibrix_extproc.simulator.server import Simulator

CORDON_SECONDS = 20.0


@dataclass
class Engines:
    """A fleet whose polls are never late, and its cordons, which one gateway applies at once."""

    simulators: Sequence[Simulator]
    cordons: dict[str, tuple[str, float]] = field(default_factory=dict)  # id -> identity and end
    in_flight: dict[str, int] = field(default_factory=dict)
    strange: tuple[Endpoint, ...] = ()
    told: list[str] = field(default_factory=list)
    most_cordoned: int = 0

    @property
    def snapshot(self) -> Snapshot:
        endpoints = [
            Endpoint(
                f"e{number}", f"127.0.0.1:{simulator.port}", f"pod-{number}", models=(ServedModel("sim-model"),),
                labels={"zone": "ab"[number % 2]}, health=Health.ASLEEP if simulator.engine.halted else Health.READY,
            )
            for number, simulator in enumerate(self.simulators)
        ]  # fmt: skip
        return snapshot_of((*endpoints, *self.strange), version=1)

    async def put(self, cordon_id: str, identity: str, run_id: str, life_seconds: float) -> int:
        self.cordons[cordon_id] = identity, time.monotonic() + life_seconds
        self.most_cordoned = max(self.most_cordoned, len(self.cordons))
        return 7

    async def remove(self, cordon_id: str) -> None:
        self.cordons.pop(cordon_id, None)

    async def lives(self, cordon_id: str) -> bool:
        return cordon_id in self.cordons

    async def cordoned(self, fleet: Snapshot) -> Mapping[str, int]:
        return {identity: 7 for identity, _ in self.cordons.values()}

    async def reports(self) -> list[GatewayReport]:
        return [GatewayReport("gateway", 7, dict(self.in_flight), 0.1)]

    async def tell(self, endpoints: Sequence[Endpoint]) -> None:
        self.told += [one.identity for one in endpoints]

    def acts(self, client: EngineOps) -> RunActs:
        return RunActs(self, client, self, self.reports, self.tell, CORDON_SECONDS)

    def replaced(self, number: int, address: str) -> None:
        """An engine of the fleet is at another address."""
        endpoint = self.snapshot.endpoints[number]
        self.strange = (*self.strange, replace(endpoint, identity=f"s{number}", address=address, name="strange"))
