"""What the gateway knows, asked by the machine: who may pass, what is listed, which endpoint takes the request."""

from collections.abc import Callable, Mapping
from typing import Final

from aibrix_extproc.app.credentials import Credentials
from aibrix_extproc.core.access.keys import KeyRing
from aibrix_extproc.core.exchange import events
from aibrix_extproc.core.exchange.outputs import Authenticate, Describe, Place, Question
from aibrix_extproc.core.fleet.model import ServedModel, Snapshot
from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.contract.listing import ModelCard, model_list, one_model
from aibrix_extproc.core.openai.contract.operations import Action, Local, Operation, shown
from aibrix_extproc.core.openai.contract.paths import decode_model_id
from aibrix_extproc.core.placing import Caller
from aibrix_extproc.core.routing.place import Placer

_JSON: Final = (("content-type", "application/json"),)


class Answers:
    """Answers every ask from memory, at once."""

    def __init__(
        self,
        *,
        snapshot: Callable[[], Snapshot],
        keys: Callable[[], KeyRing],
        placer: Placer,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self._snapshot = snapshot
        self._keys = keys
        self._placer = placer
        self._clock = clock
        self._wall_clock = wall_clock
        self.credentials: Credentials | None = None  # of a gateway that has a metadata service

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
        decision = self._placer.place(ask, self._snapshot())
        if isinstance(decision, Problem):
            return events.Refused(decision)
        return events.Placed(self._clock(), decision.placement, decision.answer_headers, decision.response_id)

    def _describe(
        self, operation: Operation, parameters: Mapping[str, str], caller: Caller
    ) -> events.Answered | events.Refused:
        snapshot = self._snapshot()
        if not snapshot.known:
            return events.Refused(Problem("fleet_unknown"))
        if operation.local is Local.HEALTH:
            serves = any(snapshot.ready_by_model.values())
            return events.Answered(200, _JSON, b'{"status":"ok"}') if serves else _refused("no_engine_ready")
        if operation.local is Local.LIST_MODELS:
            cards = (_card(served) for served in snapshot.models.values() if caller.may_use_model(served.id))
            return events.Answered(200, _JSON, model_list(cards))
        asked = parameters.get("model", "")
        name = decode_model_id(asked)
        served = snapshot.models.get(name) if name is not None else None
        if served is None or not caller.may_use_model(served.id):
            return _refused("model_not_found_retrieve", model=shown(name or asked))
        if operation.local is Local.DELETE_MODEL:
            return _refused("model_delete_refused", model=shown(served.id))
        return events.Answered(200, _JSON, one_model(_card(served)))


def _refused(key: str, **values: str) -> events.Refused:
    return events.Refused(Problem(key, values))


def _card(served: ServedModel) -> ModelCard:
    return ModelCard(served.id, served.parent, served.max_model_len)
