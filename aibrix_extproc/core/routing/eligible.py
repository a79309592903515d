"""Which endpoints may take a request, before any of them is preferred."""

from msgspec.structs import replace

from aibrix_extproc.core.fleet.model import Endpoint, Snapshot
from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.contract.operations import shown
from aibrix_extproc.core.placing import Placement
from aibrix_extproc.core.routing.request import Place


def eligible(request: Place, fleet: Snapshot, model: str) -> tuple[Endpoint, ...] | Problem:
    """The endpoints that serve the model, do the operation, are ready, and are in the request's subset; never empty.

    A model that the caller may not use does not exist for it.
    """
    known = fleet.by_model.get(model)
    if known is None or not request.caller.may_use_model(model):
        return Problem("model_not_found", {"model": shown(model)})
    ready = fleet.ready_by_model[model]
    operation = request.operation
    if fleet.common_tasks[model].isdisjoint(operation.tasks) or model in fleet.partial:
        tasks, lacking = operation.tasks, operation.lacking_frontends
        if not any(one.does(tasks, lacking) for one in known):
            return Problem("model_wrong_task", {"model": shown(model)})
        ready = tuple(one for one in ready if one.does(tasks, lacking))
    if request.full:
        ready = tuple(one for one in ready if one.identity not in request.full) or ready
    if request.subset is not None:
        ready = tuple(one for one in ready if request.subset.has(one.address))
    return ready or not_ready(model)


def not_ready(model: str) -> Problem:
    """A refusal that is worth another try."""
    return Problem("model_not_ready", {"model": shown(model)})


def with_one_key(placement: Placement) -> Placement:
    """Only the candidates with the first one's engine key: a retry repeats the headers, and so the key."""
    key = placement.first.api_key
    same = [one for one in placement.candidates if one.api_key == key]
    return placement if len(same) == len(placement.candidates) else replace(placement, candidates=tuple(same))
