"""The admin interface of the policies of models: when their engines sleep and wake."""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from aibrix_extproc.adapters.ledger.control import ControlLedger
from aibrix_extproc.adapters.openai_http.call import Call, Handler, Reply, good, refuse
from aibrix_extproc.core.control.rows import Row, Section
from aibrix_extproc.core.openai.contract.operations import shown
from aibrix_extproc.core.openai.contract.paging import list_object, read_page
from aibrix_extproc.core.operations.policies import ModelPolicy, read_policy

_RECORD: Final = msgspec.json.Decoder(ModelPolicy)


class PolicyApi:
    """Handlers by operation id. `wake`: a record has changed."""

    def __init__(self, control: ControlLedger, wake: Callable[[], None]) -> None:
        self._control = control
        self._wake = wake

    def handlers(self) -> Mapping[str, Handler]:
        """The handlers of an API server, by operation id."""
        return {
            "list_policies": self.list,
            "get_policy": self.get,
            "put_policy": self.put,
            "delete_policy": self.delete,
        }

    async def list(self, call: Call) -> Reply:
        """One page, by model. Models that are not the caller's to operate are left out."""
        page = good(read_page(call.query, default=100, largest=1000))
        rows, more = await self._control.page(Section.MODELS, page.after, page.limit)
        objects = [_object(row) for row in rows if call.principal.may("list_policies", model=row.id)]
        return Reply(list_object(objects, has_more=more))

    async def get(self, call: Call) -> Reply:
        """One policy."""
        return Reply(_object(await self._found(call, "get_policy")))

    async def put(self, call: Call) -> Reply:
        """Store a policy, over the one of before."""
        model = call.parameters["model"]
        policy = good(read_policy(model, await call.json()))
        if not call.principal.may("put_policy", model=model):
            raise refuse("permission_denied", what=f"the model '{shown(model, 64)}'")
        row = await self._control.put(Section.MODELS, model, policy)
        self._wake()
        return Reply(_object(row))

    async def delete(self, call: Call) -> Reply:
        """Forget a policy."""
        row = await self._found(call, "delete_policy")
        await self._control.delete(Section.MODELS, row.id)
        self._wake()
        return Reply({"id": row.id, "object": "model.policy", "deleted": True})

    async def _found(self, call: Call, operation: str) -> Row:
        model = call.parameters["model"]
        row = await self._control.get(Section.MODELS, model)
        if row is None or not call.principal.may(operation, model=model):
            raise refuse("policy_not_found", model=shown(model, 64))
        return row


def _object(row: Row) -> dict[str, object]:
    policy = _RECORD.decode(row.data or b"")
    fields = {name: getattr(policy, name) for name in policy.__struct_fields__ if name != "model"}
    return {"id": policy.model, "object": "model.policy", **fields, "version": row.version}
