"""The admin interface of desired adapters: records, and what became of them on each engine."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from aibrix_extproc.adapters.ledger.adapter_states import AdapterStates
from aibrix_extproc.adapters.ledger.control import ControlLedger, VersionConflictError
from aibrix_extproc.adapters.openai_http.call import Call, Handler, Reply, good, refuse
from aibrix_extproc.core.control.rows import Row, Section
from aibrix_extproc.core.fleet.model import Snapshot
from aibrix_extproc.core.openai.contract.operations import shown
from aibrix_extproc.core.openai.contract.paging import list_object, read_page
from aibrix_extproc.core.operations.adapter_status import adapter_object
from aibrix_extproc.core.operations.desired import DesiredAdapter, read_adapter
from aibrix_extproc.core.operations.placed import AdapterState

_RECORD: Final = msgspec.json.Decoder(DesiredAdapter)
TRIES: Final = 5  # of a change, while others change the same record


class AdapterApi:
    """Handlers by operation id. `wake`: a record has changed. `declares`: whether ModelAdapters declare records here.

    Where they no longer do, what they have left behind is changed like any other record.
    """

    def __init__(
        self, control: ControlLedger, states: AdapterStates, snapshot: Callable[[], Snapshot | None],
        clock: Callable[[], float], wake: Callable[[], None], *, declares: bool = False,
    ) -> None:  # fmt: skip
        self._control = control
        self._states = states
        self._snapshot = snapshot
        self._clock = clock
        self._wake = wake
        self._declares = declares

    def handlers(self) -> Mapping[str, Handler]:
        """The handlers of an API server, by operation id."""
        return {
            "list_adapters": self.list,
            "get_adapter": self.get,
            "put_adapter": self.put,
            "delete_adapter": self.delete,
        }

    async def list(self, call: Call) -> Reply:
        """One page, by name. Adapters that are not the caller's to operate are left out."""
        page = good(read_page(call.query, default=100, largest=1000))
        rows, more = await self._control.page(Section.ADAPTERS, page.after, page.limit)
        states: dict[str, list[AdapterState]] = {}
        for one in await self._states.all():
            states.setdefault(one.adapter, []).append(one)
        found = [(row, _RECORD.decode(row.data or b"")) for row in rows]
        objects = [
            self._object(row.version, record, states.get(record.name, []))
            for row, record in found
            if _may(call, "list_adapters", record)
        ]
        return Reply(list_object(objects, has_more=more))

    async def get(self, call: Call) -> Reply:
        """One adapter; one that is still being unloaded, too."""
        name = call.parameters["adapter"]
        found = await self._found(call, "get_adapter", name)
        states = await self._states.all(name)
        if found is None and states and call.principal.is_admin:
            return Reply(self._object(0, DesiredAdapter(name, "", ""), states) | {"state": "unloading"})
        if found is None:
            raise _not_found(name)
        return Reply(self._object(found[0].version, found[1], states))

    async def put(self, call: Call) -> Reply:
        """Store a record. The adapter is loaded afterwards."""
        name, fields = call.parameters["adapter"], await call.json()
        record = good(read_adapter(name, {key: value for key, value in fields.items() if key != "replace"}))
        call.target.update({"path": record.path, "base": record.base})
        if not _may(call, "put_adapter", record):
            raise refuse("permission_denied", what=f"the adapter '{shown(name, 64)}' on '{shown(record.base, 64)}'")
        self._refuse_taken(name)
        for _ in range(TRIES):
            row = await self._control.get(Section.ADAPTERS, name)
            if row is not None:
                self._refuse_other(_RECORD.decode(row.data or b""), record, fields.get("replace"))
            try:
                stored = await self._control.put(
                    Section.ADAPTERS, name, record, expect_version=0 if row is None else row.version
                )
            except VersionConflictError:
                continue
            self._wake()
            return Reply(self._object(stored.version, record, await self._states.all(name)))
        raise refuse("adapter_exists", adapter=shown(name, 64), path="?")

    async def delete(self, call: Call) -> Reply:
        """Forget the record; what we loaded is unloaded afterwards."""
        name = call.parameters["adapter"]
        found = await self._found(call, "delete_adapter", name)
        if found is None:
            raise _not_found(name)
        self._refuse_declared(found[1])
        await self._control.delete(Section.ADAPTERS, name)
        self._wake()
        return Reply({"id": name, "object": "adapter", "deleted": True})

    async def _found(self, call: Call, operation: str, name: str) -> tuple[Row, DesiredAdapter] | None:
        row = await self._control.get(Section.ADAPTERS, name)
        if row is None:
            return None
        record = _RECORD.decode(row.data or b"")
        return (row, record) if _may(call, operation, record) else None

    def _refuse_taken(self, name: str) -> None:
        fleet = self._snapshot()
        served = None if fleet is None else fleet.models.get(name)
        if served is not None and served.parent is None:
            raise refuse("adapter_name_taken", adapter=shown(name, 64))

    def _refuse_other(self, before: DesiredAdapter, after: DesiredAdapter, replace: Any) -> None:
        """Two adapters of one name are a slip, unless the client says that it means to replace the first."""
        self._refuse_declared(before)
        if (before.path, before.base) != (after.path, after.base) and replace is not True:
            raise refuse("adapter_exists", adapter=shown(before.name, 64), path=shown(before.path))

    def _refuse_declared(self, record: DesiredAdapter) -> None:
        if record.source and self._declares:
            raise refuse("adapter_declared_elsewhere", adapter=shown(record.name, 64), source=record.source)

    def _object(self, version: int, record: DesiredAdapter, states: Sequence[AdapterState]) -> dict[str, object]:
        return adapter_object(version, record, states, self._clock())


def _may(call: Call, operation: str, record: DesiredAdapter) -> bool:
    return call.principal.may(operation, model=record.base, adapter=record.name)


def _not_found(name: str) -> Exception:
    return refuse("adapter_not_found", adapter=shown(name, 64))
