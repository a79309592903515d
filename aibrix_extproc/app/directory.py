"""What the gateway itself answers of its models, its interfaces and its health."""

from collections.abc import Awaitable, Callable
from typing import Final

from aibrix_extproc.app.interfaces import Interfaces
from aibrix_extproc.core.exchange.asks import Describe, Described, Refused
from aibrix_extproc.core.fleet.model import ServedModel, Snapshot
from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.contract.listing import ModelCard, model_list, one_model
from aibrix_extproc.core.openai.contract.operations import Local, shown
from aibrix_extproc.core.openai.contract.paths import decode_model_id

_OF_ONE_MODEL: Final = frozenset({Local.RETRIEVE_MODEL, Local.DELETE_MODEL})
_JSON: Final = (("content-type", "application/json"),)


class Directory:
    """Answers from the fleet of the moment."""

    def __init__(self, snapshot: Callable[[], Snapshot], interfaces: Interfaces | None = None) -> None:
        self._snapshot = snapshot
        self._interfaces = interfaces or Interfaces(snapshot)

    def describe(self, ask: Describe) -> Described | Refused | Awaitable[Described | Refused]:
        """The gateway's own answer to an operation. A model that the caller may not use does not exist for it."""
        operation, caller = ask.operation, ask.caller
        snapshot = self._snapshot()
        if not snapshot.known:
            return Refused(Problem("fleet_unknown"))
        if operation.local is Local.HEALTH:
            serves = any(snapshot.ready_by_model.values())
            return Described(200, _JSON, b'{"status":"ok"}') if serves else _refused("no_engine_ready")
        if operation.local is Local.LIST_MODELS:
            cards = (_card(served) for served in snapshot.models.values() if caller.may_use_model(served.id))
            return Described(200, _JSON, model_list(cards))
        if operation.local not in _OF_ONE_MODEL:
            return self._interfaces.describe(ask)
        asked = ask.parameters.get("model", "")
        name = decode_model_id(asked)
        served = snapshot.models.get(name) if name is not None else None
        if served is None or not caller.may_use_model(served.id):
            return _refused("model_not_found_retrieve", model=shown(name or asked))
        if operation.local is Local.DELETE_MODEL:
            return _refused("model_delete_refused", model=shown(served.id))
        return Described(200, _JSON, one_model(_card(served)))


def _refused(key: str, **values: str) -> Refused:
    return Refused(Problem(key, values))


def _card(served: ServedModel) -> ModelCard:
    return ModelCard(served.id, served.parent, served.max_model_len)
