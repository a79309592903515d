"""What the gateway knows, asked by the machine: who may pass, what is listed, which endpoint takes the request."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from aibrix_extproc.app.credentials import Credentials
from aibrix_extproc.core.access.keys import KeyRing
from aibrix_extproc.core.exchange import events
from aibrix_extproc.core.exchange.outputs import Authenticate, Describe, Headers, Place, Question
from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.fleet.model import LACKS, Endpoint, ServedModel, Snapshot
from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.contract.listing import ModelCard, model_list, one_model
from aibrix_extproc.core.openai.contract.operation_rows import GATEWAY_HEALTH
from aibrix_extproc.core.openai.contract.operations import Action, Operation, shown
from aibrix_extproc.core.openai.contract.paths import decode_model_id
from aibrix_extproc.core.placing import ATTEMPTS, Caller, Placement, RouteQuery
from aibrix_extproc.core.routing.choose import choose
from aibrix_extproc.core.routing.owners import ResponseOwners
from aibrix_extproc.core.routing.plan import Plan, plan_of
from aibrix_extproc.core.routing.registry import STRATEGIES

_JSON: Final = (("content-type", "application/json"),)


@dataclass(frozen=True, slots=True)
class Ranking:
    """How placements are made: the strategy when nobody names one, and how many candidates there are at most."""

    strategy: str
    candidates: int = ATTEMPTS


class Answers:
    """Answers every ask from memory, at once."""

    def __init__(
        self,
        *,
        snapshot: Callable[[], Snapshot],
        load: LoadBook,
        keys: Callable[[], KeyRing],
        owners: ResponseOwners,
        ranking: Ranking,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        dice: Callable[[], float],
    ) -> None:
        self._snapshot = snapshot
        self._load = load
        self._keys = keys
        self._owners = owners
        self._strategy = ranking.strategy
        self._candidates = ranking.candidates
        self._keeps_sessions = STRATEGIES[ranking.strategy].spec.keeps_sessions
        self._clock = clock
        self._wall_clock = wall_clock
        self._dice = dice
        self.credentials: Credentials | None = None  # of a gateway that has a metadata service
        self._ticks: dict[str, int] = {}  # placements by known model

    def answer(self, ask: Question) -> events.Answer:
        """The event that the machine waits for."""
        match ask:
            case Authenticate():
                return self._authenticate(ask)
            case Place():
                return self._place(ask)
            case Describe():
                return self._describe(ask.operation, ask.parameters, ask.caller)

    def _authenticate(self, ask: Authenticate) -> events.Admitted | events.Refused:
        caller = self._caller(ask)
        if isinstance(caller, Problem):
            return events.Refused(caller)
        operation = ask.operation
        # What is an unknown URL for everybody stays one: a 403 would tell that it is there.
        if operation is None or operation.action in (Action.ADMIN, Action.REFUSE):
            return events.Admitted(caller)
        if not caller.may_use_operation(operation.id):
            return _refused("permission_denied", what=f"{operation.method} {operation.path}")
        if operation.action is Action.METADATA and self.credentials is not None:
            return events.Admitted(caller, self.credentials.vouch(caller.name, ask.request_id, operation.id))
        return events.Admitted(caller)

    def _caller(self, ask: Authenticate) -> Caller | Problem:
        keys = self._keys()
        if ask.on_behalf is None or ask.operation is None:
            return keys.authenticate(ask.authorization, ask.x_api_key, self._wall_clock(), api_key=ask.api_key)
        name = None if self.credentials is None else self.credentials.vouched(ask.on_behalf, ask.operation.id)
        return keys.named(name) if name is not None else Problem("invalid_api_key", {"key": "***"})

    def _place(self, ask: Place) -> events.Placed | events.Refused:
        placed = self._placed(ask)
        if ask.operation.id != "response" or not isinstance(placed, events.Placed):
            return placed
        made = self._owners.issue(ask.caller.name, placed.placement, self._wall_clock(), self._dice())
        return replace(placed, response_id=made)

    def _placed(self, ask: Place) -> events.Placed | events.Refused:
        snapshot = self._snapshot()
        if not snapshot.known:
            return _refused("fleet_unknown")
        if ask.held_response is not None:
            return self._place_with_owner(ask, ask.held_response, snapshot)
        query = ask.query
        ready = _ready(snapshot, query.model, ask)
        if isinstance(ready, Problem):
            return events.Refused(ready)
        config = snapshot.configs.get(query.model)
        if ask.hints is None and config is None and not self._keeps_sessions:
            return self._choose(self._strategy, query, ready)  # nearly all requests
        plan = plan_of(ask.hints, config, self._strategy, self._dice())
        if isinstance(plan, Problem):
            return events.Refused(plan)
        if plan.selector:
            ready = plan.allowed(ready)
            if not ready:
                return _refused_by_filter(plan, snapshot, query.model)
        if plan.session:
            query = replace(query, session=plan.session)
        return self._choose(plan.strategy, query, ready, plan.answer_headers)

    def _place_with_owner(self, ask: Place, response_id: str, snapshot: Snapshot) -> events.Placed | events.Refused:
        """The engine that holds the response; nothing that the client says of others counts."""
        owner = self._owners.find(response_id, ask.caller.name, self._wall_clock())
        holder = owner.holder(snapshot.endpoints) if owner is not None else None
        if owner is None or holder is None:
            return _unknown_response(ask)
        # Where the path names no model, the response does.
        model = ask.query.model or owner.model(one.id for one in holder.models)
        if model is None:
            return _unknown_response(ask)
        ready = _ready(snapshot, model, ask)
        if isinstance(ready, Problem):
            return events.Refused(ready)
        if all(one.id != model for one in holder.models):
            return _unknown_response(ask)  # the engines of this model have another memory
        ready = tuple(one for one in ready if one.identity == holder.identity)
        if not ready:
            return _refused("model_not_ready", model=shown(model))
        return self._choose(self._strategy, replace(ask.query, model=model), ready)

    def _choose(
        self, strategy: str, query: RouteQuery, ready: tuple[Endpoint, ...], answer_headers: Headers = ()
    ) -> events.Placed:
        tick = self._ticks[query.model] = self._ticks.get(query.model, -1) + 1
        placement = choose(
            strategy, query, ready, self._load.view, tick=tick, dice=self._dice(), limit=self._candidates
        )
        return events.Placed(self._clock(), _one_key(placement), answer_headers)

    def _describe(
        self, operation: Operation, parameters: Mapping[str, str], caller: Caller
    ) -> events.Answered | events.Refused:
        snapshot = self._snapshot()
        if not snapshot.known:
            return events.Refused(Problem("fleet_unknown"))
        if operation is GATEWAY_HEALTH:
            serves = any(snapshot.ready_by_model.values())
            return events.Answered(200, _JSON, b'{"status":"ok"}') if serves else _refused("no_engine_ready")
        if operation.id == "list_models":
            cards = (_card(served) for served in snapshot.models.values() if caller.may_use_model(served.id))
            return events.Answered(200, _JSON, model_list(cards))
        asked = parameters.get("model", "")
        name = decode_model_id(asked)
        served = snapshot.models.get(name) if name is not None else None
        if served is None or not caller.may_use_model(served.id):
            return _refused("model_not_found_retrieve", model=shown(name or asked))
        if operation.id == "delete_model":
            return _refused("model_delete_refused", model=shown(served.id))
        return events.Answered(200, _JSON, one_model(_card(served)))


def _refused(key: str, **values: str) -> events.Refused:
    return events.Refused(Problem(key, values))


def _unknown_response(ask: Place) -> events.Refused:
    response_id = shown(ask.held_response or "", 128)
    if ask.query.model:
        return _refused("previous_response_not_found", response_id=response_id)
    message = f"Response with id '{response_id}' not found."
    return events.Refused(Problem("not_found", {"message": message}, param="response_id"))


def _ready(snapshot: Snapshot, model: str, ask: Place) -> tuple[Endpoint, ...] | Problem:
    """The endpoints that may take the request. A model that the caller may not use does not exist for it."""
    known = snapshot.by_model.get(model)
    if known is None or not ask.caller.may_use_model(model):
        return Problem("model_not_found", {"model": shown(model)})
    ready = snapshot.ready_by_model[model]
    # Not all of them do it.
    if snapshot.common_tasks[model].isdisjoint(ask.operation.tasks) or model in snapshot.partial:
        if not any(_does(one, ask.operation) for one in known):
            return Problem("model_wrong_task", {"model": shown(model)})
        ready = tuple(one for one in ready if _does(one, ask.operation))
    if ask.subset is not None:
        ready = tuple(one for one in ready if ask.subset.has(one.address))
    return ready or Problem("model_not_ready", {"model": shown(model)})


def _refused_by_filter(plan: Plan, snapshot: Snapshot, model: str) -> events.Refused:
    """None is ready of those that match, or none matches at all: only the first is worth another try."""
    key = "model_not_ready" if plan.allowed(snapshot.by_model[model]) else "no_matching_engine"
    return _refused(key, model=shown(model))


def _card(served: ServedModel) -> ModelCard:
    return ModelCard(served.id, served.parent, served.max_model_len)


def _does(endpoint: Endpoint, operation: Operation) -> bool:
    """An engine whose tasks are unknown is never refused because of them."""
    if operation.id in LACKS.get(endpoint.frontend, ()):
        return False
    return not operation.tasks or not endpoint.tasks or not operation.tasks.isdisjoint(endpoint.tasks)


def _one_key(placement: Placement) -> Placement:
    """Only candidates with the first one's engine key: a retry repeats the headers, and so the key."""
    key = placement.first.api_key
    if all(one.api_key == key for one in placement.candidates):
        return placement
    same = tuple(one for one in placement.candidates if one.api_key == key)
    return Placement(placement.strategy, placement.model, same)
