"""What operators and requests want of the engines: records of adapters and policies, and demands, read anew."""

from aibrix_extproc.adapters.ledger.control import ControlLedger
from aibrix_extproc.adapters.ledger.demands import Demand, DemandLedger
from aibrix_extproc.app.metadata.records import all_records
from aibrix_extproc.core.control.rows import Section
from aibrix_extproc.core.operations.desired import DesiredAdapter
from aibrix_extproc.core.operations.policies import ModelPolicy
from aibrix_extproc.core.operations.resting import DEMAND_SECONDS


class Wants:
    """The last known wants. `refresh` costs two short queries while nothing changes."""

    def __init__(self, control: ControlLedger, demands: DemandLedger) -> None:
        self._control = control
        self._ledger = demands
        self._version: tuple[str, int] | None = None
        self.adapters: tuple[DesiredAdapter, ...] = ()
        self.changed: frozenset[str] = frozenset()  # adapters with another record; the reader resets it
        self.policies: dict[str, ModelPolicy] = {}
        self.demands: dict[str, Demand] = {}

    async def refresh(self) -> None:
        """Read what has changed. Raises DatabaseError."""
        version = await self._control.version()
        if version != self._version:
            adapters = tuple([one for _, one in await all_records(self._control, Section.ADAPTERS, DesiredAdapter)])
            self.changed |= {one.name for one in adapters if one not in self.adapters}
            self.adapters = adapters
            self.policies = {one.model: one for _, one in await all_records(self._control, Section.MODELS, ModelPolicy)}
            self._version = version
        can_demand = any(one.lazy for one in self.adapters) or any(
            one.wake_on_request for one in self.policies.values()
        )
        self.demands = {one.model: one for one in await self._ledger.open(DEMAND_SECONDS)} if can_demand else {}

    async def meet(self, model: str) -> None:
        """A model that was demanded is served now. Raises DatabaseError."""
        if self.demands.pop(model, None) is not None:
            await self._ledger.meet(model)
