"""The engines of the fleet for operators: what each serves, whether it takes requests, and why not."""

from collections.abc import Mapping

from aibrix_extproc.adapters.openai_http.call import Call, Handler, Reply, refuse
from aibrix_extproc.app.metadata.run_acts import Fleet, RunActs
from aibrix_extproc.core.access.principal import Principal
from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.operations.draining import Drain


class EngineList:
    """Handler of the list. `fleet` and `acts` are None where the service knows no engines."""

    def __init__(self, fleet: Fleet | None, acts: RunActs | None) -> None:
        self._fleet = fleet
        self._acts = acts

    def handlers(self) -> Mapping[str, Handler]:
        """The handlers of an API server, by operation id."""
        return {"list_engines": self.list}

    async def list(self, call: Call) -> Reply:
        """All engines whose models the caller may operate."""
        if self._fleet is None or self._acts is None:
            raise refuse("no_fleet")
        endpoints = [one for one in self._fleet.snapshot.endpoints if _may_see(call.principal, one)]
        drains = await self._acts.drains()
        rows = [engine_object(one, drains.get(one.identity)) for one in endpoints]
        return Reply({"object": "list", "data": rows, "known": self._fleet.snapshot.known})


def engine_object(endpoint: Endpoint, drain: Drain | None) -> dict[str, object]:
    """One engine, without its key. `drain`: of a cordoned one."""
    return {
        "id": endpoint.identity,
        "object": "engine",
        "address": endpoint.address,
        "name": endpoint.name,
        "engine": endpoint.engine,
        "role": endpoint.role.value,
        "role_set": endpoint.role_set or None,
        "models": [{"id": model.id, "parent": model.parent} for model in endpoint.models],
        "health": endpoint.health.value,
        "detail": endpoint.detail or endpoint.warning,
        "cordoned": drain is not None,
        "drain": None if drain is None else {
            "complete": drain.complete, "in_flight": drain.in_flight, "gateways": drain.gateways,
            "gateways_behind": drain.behind,
        },
        "labels": dict(endpoint.labels),
        "weight_version": endpoint.weight_version or None,
        "engine_version": endpoint.engine_version or None,
    }  # fmt: skip


def _may_see(principal: Principal, endpoint: Endpoint) -> bool:
    bases = [model.id for model in endpoint.models if model.parent is None]
    return not bases or any(principal.may("list_engines", model=model) for model in bases)
