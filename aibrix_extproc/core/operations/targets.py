"""Which engines an operation concerns: chosen among the endpoints of the fleet, so that no client names an address."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from aibrix_extproc.core.fleet.model import Endpoint, Health, Snapshot
from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.contract.operations import shown
from aibrix_extproc.core.operations.parameters import invalid
from aibrix_extproc.core.operations.table import Adapters, EngineOperation

TARGET_ENDPOINTS: Final = "x-target-endpoints"
MAX_TARGETS: Final = 4096
# Whose HTTP surface the table describes.
VLLM: Final = frozenset({"vllm", "vllm-omni"})


class Operator(Protocol):
    """The caller of an operation, with its rights."""

    @property
    def is_admin(self) -> bool:
        """Whether everything is allowed."""

    def may(self, operation: str, *, model: str | None = None, adapter: str | None = None) -> bool:
        """Whether it may do this to engines of a model, and to an adapter."""


@dataclass(frozen=True, slots=True)
class Target:
    """The engines that a client names: by a model, and by addresses."""

    model: str | None = None
    addresses: str | None = None  # the header, as sent
    adapter: str | None = None  # that is loaded or unloaded


def targets(
    operation: EngineOperation, target: Target, fleet: Snapshot, operator: Operator
) -> tuple[Endpoint, ...] | Problem:
    """The engines, never none, or why there are none."""
    refused = _adapter_refused(operation, target.adapter, fleet, operator)
    if refused is not None:
        return refused
    found = _of_addresses(target.addresses, fleet, operator) if target.addresses is not None else fleet.endpoints
    if isinstance(found, Problem):
        return found
    if target.model is not None:
        chosen = _of_model(operation, target.model, found, fleet, operator)
        if isinstance(chosen, Problem):
            return chosen
        found = chosen
    found = tuple(one for one in found if one.engine in VLLM and _may_operate(operator, operation, one))
    if target.addresses is None:
        found = tuple(one for one in found if one.address and one.health is not Health.DRAINING)
    if target.model is None and target.addresses is None:
        chosen = _by_adapter(operation, target.adapter, found)
        if isinstance(chosen, Problem):
            return chosen
        found = chosen
    if operation.adapters is Adapters.LOAD and found:
        other = _other_base(target.adapter, found, fleet)
        if other is not None:
            return other
    return found[:MAX_TARGETS] if found else Problem("no_engines", {"path": operation.path})


def _adapter_refused(
    operation: EngineOperation, adapter: str | None, fleet: Snapshot, operator: Operator
) -> Problem | None:
    """A name that is not the caller's to give, or that a base model has."""
    if adapter is None or operation.adapters is Adapters.NONE:
        return None
    if not operator.may(operation.id, adapter=adapter):
        return Problem("permission_denied", {"what": f"the adapter '{shown(adapter, 64)}'"})
    served = fleet.models.get(adapter)
    if served is not None and served.parent is None:
        return invalid("lora_name", f"Invalid 'lora_name': '{shown(adapter, 64)}' is a model that engines serve.")
    return None


def _of_addresses(header: str, fleet: Snapshot, operator: Operator) -> tuple[Endpoint, ...] | Problem:
    if not operator.is_admin:
        return Problem("permission_denied", {"what": f"the header {TARGET_ENDPOINTS}"})
    by_address = {one.address: one for one in fleet.endpoints if one.address}
    found: dict[str, Endpoint] = {}
    for part in header[: 64 * MAX_TARGETS].split(","):
        address = part.strip()
        endpoint = by_address.get(address)
        if endpoint is None:
            return Problem("unknown_endpoint", {"given": shown(address, 64)}, param=TARGET_ENDPOINTS)
        found[address] = endpoint
    return tuple(found.values())


def _of_model(
    operation: EngineOperation, model: str, endpoints: Iterable[Endpoint], fleet: Snapshot, operator: Operator
) -> tuple[Endpoint, ...] | Problem:
    """Engines that serve the model, or its adapter. A model that the caller may not operate does not exist for it."""
    members = fleet.by_model.get(model, ())
    chosen = frozenset(one.identity for one in members if _may_operate(operator, operation, one))
    if not chosen:
        return Problem("model_not_found", {"model": shown(model)}, param="model")
    return tuple(one for one in endpoints if one.identity in chosen)


def _by_adapter(
    operation: EngineOperation, adapter: str | None, endpoints: tuple[Endpoint, ...]
) -> tuple[Endpoint, ...] | Problem:
    """The engines of an adapter's base model, where no model is named, as far as one is known to have it.

    Polls lag behind, so an engine that is not known to have the adapter may have it.
    """
    if operation.adapters is Adapters.NONE or adapter is None:
        return endpoints
    bases = {one.identity: _bases(one) for one in endpoints}
    having = [bases[one.identity] for one in endpoints if any(model.id == adapter for model in one.models)]
    if operation.adapters is Adapters.UNLOAD:
        names = frozenset[str]().union(*having)
        return tuple(one for one in endpoints if not names or not names.isdisjoint(bases[one.identity]))
    known = [names for names in bases.values() if names]
    if any(names.isdisjoint(known[0]) for names in known):
        message = "The engines serve several models: say which one the adapter belongs to, by ?model=NAME."
        return invalid("model", message)
    return endpoints


def _other_base(adapter: str | None, found: tuple[Endpoint, ...], fleet: Snapshot) -> Problem | None:
    """Refuse a name that an adapter of another model has: requests for it would be answered by either model."""
    wanted = frozenset[str]().union(*map(_bases, found))
    for one in fleet.by_model.get(adapter or "", ()):
        bases = _bases(one)
        if wanted and bases and bases.isdisjoint(wanted):
            name, base = shown(adapter or "", 64), shown(min(bases), 64)
            return invalid("lora_name", f"Invalid 'lora_name': '{name}' is an adapter of the model '{base}'.")
    return None


def _bases(endpoint: Endpoint) -> frozenset[str]:
    return frozenset(model.id for model in endpoint.models if model.parent is None)


def _may_operate(operator: Operator, operation: EngineOperation, endpoint: Endpoint) -> bool:
    """Whether every base model of an engine is the caller's to operate: they all feel it."""
    if operator.is_admin:
        return True
    names = _bases(endpoint)
    return bool(names) and all(operator.may(operation.id, model=name) for name in names)
