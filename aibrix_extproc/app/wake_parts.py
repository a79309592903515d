"""The parts of a gateway for sleep and wake: requests that wait, and reports of which engines are used."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aibrix_extproc.adapters.internal_api.client import InternalClient
from aibrix_extproc.app.control_parts import replica_name
from aibrix_extproc.app.dispatch import Observer
from aibrix_extproc.app.engine_use import EngineUse
from aibrix_extproc.app.fleet_store import FleetStore
from aibrix_extproc.app.parts.waking import Waking
from aibrix_extproc.core.control.rows import Section
from aibrix_extproc.core.control.state import ControlState
from aibrix_extproc.core.exchange.outputs import Finished, Moved
from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.operations.desired import DesiredAdapter
from aibrix_extproc.core.operations.policies import ModelPolicy
from aibrix_extproc.settings.control import ControlSettings


@dataclass(frozen=True, slots=True)
class WakeParts:
    """The parts for sleep and wake of a gateway with a metadata service."""

    waking: Waking
    use: EngineUse

    def observers(self) -> tuple[Observer, ...]:
        """The observers that learn which engines are used."""
        return (Finished, self.use.finished), (Moved, self.use.moved)


def wake_parts(
    settings: ControlSettings, state: ControlState, store: FleetStore, load: LoadBook,
    shared: Callable[[], Sequence[bytes]],
) -> WakeParts | None:  # fmt: skip
    """None without a metadata service."""
    if settings.url is None:
        return None
    policies = state.view(Section.MODELS, ModelPolicy).records
    adapters = state.view(Section.ADAPTERS, DesiredAdapter).records
    waking = Waking(
        policies, adapters, store, InternalClient(settings.url, replica_name(), shared),
        most=settings.max_waiting,
    )  # fmt: skip
    return WakeParts(waking, EngineUse(policies, lambda: store.snapshot, load, time.monotonic))
