"""Callers over the API: `/admin/v1/callers`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec

from aibrix_extproc.adapters.keyfile.parse import MAX_PATTERNS, parse_bounded, parse_name, parse_operation
from aibrix_extproc.adapters.ledger.control import ControlLedger, VersionConflictError
from aibrix_extproc.adapters.openai_http.call import Call, Handler, Reply, refuse
from aibrix_extproc.app.metadata.control_records import Room, body_of, checked, checked_text, decoded, invalid, page_of
from aibrix_extproc.core.access.api_keys import caller_of
from aibrix_extproc.core.access.principal import MAX_GRANT_CHARACTERS, grant_characters
from aibrix_extproc.core.access.records import CallerRecord
from aibrix_extproc.core.control.rows import Row, Section
from aibrix_extproc.core.openai.contract.operations import Role, shown

T = TypeVar("T")
MAX_LABELS: Final = 32

Unset = msgspec.UnsetType
UNSET: Final = msgspec.UNSET


class CallerFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The body of a request; what it leaves out stays as it is."""

    name: str | Unset = UNSET
    models: tuple[str, ...] | Unset | None = UNSET
    operations: tuple[str, ...] | Unset | None = UNSET
    role: Role | Unset = UNSET
    adapters: tuple[str, ...] | Unset | None = UNSET
    engine_controls: bool | Unset = UNSET
    labels: dict[str, str] | Unset = UNSET
    disabled: bool | Unset = UNSET
    note: str | Unset = UNSET


MAX_CALLERS: Final = 50_000


@dataclass(frozen=True, slots=True)
class CallerApi:
    """Handlers by operation id. `wall_clock`: the database's."""

    ledger: ControlLedger
    room: Room
    wall_clock: Callable[[], float]

    def handlers(self) -> Mapping[str, Handler]:
        """What an API server needs."""
        return {
            "create_caller": self.create,
            "list_callers": self.list,
            "retrieve_caller": self.retrieve,
            "update_caller": self.update,
            "delete_caller": self.delete,
        }

    async def create(self, call: Call) -> Reply:
        """Make a caller. It has no keys yet."""
        asked = await body_of(call, CallerFields)
        if asked.name is UNSET:
            raise refuse("missing_required_parameter", param="name")
        name = checked("name", parse_name, asked.name)
        await self.room.take()
        call.target["caller"] = name
        made = CallerRecord(wall_created_at=self.wall_clock(), by=call.caller)
        record = _changed(name, made, asked)
        try:
            row = await self.ledger.put(Section.CALLERS, name, record, expect_version=0)
        except VersionConflictError:
            raise refuse("exists_already", what=f"The caller {name}") from None
        return Reply(_shown(row, record))

    async def list(self, call: Call) -> Reply:
        """One page, in the order of names."""
        return await page_of(call, self.ledger, Section.CALLERS, lambda row: _shown(row, decoded(row, CallerRecord)))

    async def retrieve(self, call: Call) -> Reply:
        """One caller."""
        row = await self._found(call)
        return Reply(_shown(row, decoded(row, CallerRecord)))

    async def update(self, call: Call) -> Reply:
        """Change a caller. Every gateway knows it within a second."""
        asked = await body_of(call, CallerFields)
        row = await self._found(call)
        if asked.name not in (UNSET, row.id):
            raise invalid("name", "a caller keeps its name")
        call.target.update(msgspec.to_builtins(asked))
        record = _changed(row.id, decoded(row, CallerRecord), asked)
        try:
            row = await self.ledger.put(Section.CALLERS, row.id, record, expect_version=row.version)
        except VersionConflictError:
            raise refuse("changed_meanwhile", what=f"The caller {row.id}") from None
        return Reply(_shown(row, record))

    async def delete(self, call: Call) -> Reply:
        """Remove a caller that has no keys."""
        row = await self._found(call)
        if (await self.ledger.page(Section.KEYS, None, 1, parent=row.id))[0]:
            raise refuse("caller_has_keys", id=row.id)
        if await self.ledger.delete(Section.CALLERS, row.id) is None:
            raise _no_such_caller(row.id)
        return Reply({"id": row.id, "object": "caller", "deleted": True})

    async def _found(self, call: Call) -> Row:
        return await caller_row(self.ledger, call.parameters.get("caller", ""))


async def caller_row(ledger: ControlLedger, name: str) -> Row:
    """The row of a caller. Raises RefusedError."""
    row = await ledger.get(Section.CALLERS, name) if 0 < len(name) <= 64 and name.isprintable() else None
    if row is None:
        raise _no_such_caller(name)
    return row


def checked_labels(labels: Mapping[str, str]) -> None:
    """Raises RefusedError for labels over their bounds."""
    if len(labels) > MAX_LABELS:
        raise invalid("labels", f"at most {MAX_LABELS}")
    for name, value in labels.items():
        checked_text("labels", name)
        checked_text(f"labels.{shown(name, 64)}", value)


def _changed(name: str, before: CallerRecord, asked: CallerFields) -> CallerRecord:
    given = {field: value for field, value in msgspec.structs.asdict(asked).items() if value is not UNSET}
    given.pop("name", None)
    for field, read in (("models", parse_bounded), ("adapters", parse_bounded), ("operations", parse_operation)):
        values = given.get(field)
        if values is None:
            continue
        if not values:
            raise invalid(field, "an empty list would allow nothing; write null to allow all, or disabled: true")
        if len(values) > MAX_PATTERNS:
            raise invalid(field, f"at most {MAX_PATTERNS}")
        given[field] = tuple(checked(field, read, one) for one in values)
    checked_labels(given.get("labels", {}))
    checked_text("note", given.get("note", ""))
    record = msgspec.structs.replace(before, **given)
    if record.role is Role.OPERATOR:
        if record.operations is None:
            raise invalid("operations", "an operator needs the list of its operations")
        if grant_characters(caller_of(name, record)) > MAX_GRANT_CHARACTERS:
            raise invalid("operations", f"the lists of an operator may have {MAX_GRANT_CHARACTERS} characters together")
    return record


def _shown(row: Row, record: CallerRecord) -> dict[str, Any]:
    return {
        "id": row.id,
        "object": "caller",
        "name": row.id,
        "role": record.role.value,
        "models": record.models,
        "operations": record.operations,
        "adapters": record.adapters,
        "engine_controls": record.engine_controls,
        "labels": record.labels,
        "disabled": record.disabled,
        "note": record.note,
        "created_at": int(record.wall_created_at),
        "by": record.by,
        "version": row.version,
    }


def _no_such_caller(name: str) -> Exception:
    return refuse("caller_not_found", param="caller", id=shown(name, 80))
