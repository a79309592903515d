"""Which endpoints of the fleet a run is for, and who may ask for it."""

from collections.abc import Collection, Sequence

from aibrix_extproc.core.fleet.model import Endpoint, Health, Snapshot
from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.contract.operations import shown
from aibrix_extproc.core.operations.planning import Seen, View
from aibrix_extproc.core.operations.records import Step, Target
from aibrix_extproc.core.operations.targets import VLLM


def aimed_at(target: Target, fleet: Snapshot) -> tuple[Endpoint, ...] | Problem:
    """The endpoints for which all that the target says holds, or why there is none."""
    found: Sequence[Endpoint] = fleet.endpoints
    if target.model:
        found = fleet.by_model.get(target.model, ())
        if not found:
            return Problem("model_not_found", {"model": shown(target.model)}, param="target.model")
    if target.endpoints:
        for name in target.endpoints:
            if not any(_is_called(one, name) for one in fleet.endpoints):
                return Problem("endpoint_not_found", {"given": shown(name, 64)}, param="target.endpoints")
        found = [one for one in found if any(_is_called(one, name) for name in target.endpoints)]
    found = [one for one in found if all(one.labels.get(key) == value for key, value in target.labels.items())]
    found = [one for one in found if one.engine in VLLM and one.address and one.health is not Health.DRAINING]
    return tuple(found) or Problem("no_endpoint_matches", {}, param="target")


def _is_called(endpoint: Endpoint, name: str) -> bool:
    return name in (endpoint.identity, endpoint.address, endpoint.name) and bool(name)


def step_of(endpoint: Endpoint) -> Step:
    """The first state of a run at an endpoint."""
    models = tuple(model.id for model in endpoint.models)
    return Step(endpoint.identity, endpoint.address, endpoint.name, models)


def view_of(fleet: Snapshot, cordoned: Collection[str]) -> View:
    """The fleet as the planner sees it."""
    return {
        one.identity: Seen(
            one.identity,
            frozenset(model.id for model in one.models),
            one.health is Health.READY and one.identity not in cordoned,
        )
        for one in fleet.endpoints
    }
