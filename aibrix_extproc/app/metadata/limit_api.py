"""Limits and prices over the API: `/admin/v1/limits`. core/access/limits says what a record means."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from aibrix_extproc.adapters.ledger.control import ControlLedger, VersionConflictError
from aibrix_extproc.adapters.openai_http.call import Call, Handler, Reply, refuse
from aibrix_extproc.app.metadata.control_records import Room, invalid, page_of
from aibrix_extproc.core.access.limits.enqueued import ENQUEUED
from aibrix_extproc.core.access.limits.records import LimitFormatError, LimitRecord, parse_record
from aibrix_extproc.core.control.rows import MAX_ID, Row, Section
from aibrix_extproc.core.openai.contract.operations import shown

MAX_LIMITS: Final = 100_000


@dataclass(frozen=True, slots=True)
class LimitApi:
    """Handlers by operation id."""

    ledger: ControlLedger
    room: Room

    def handlers(self) -> Mapping[str, Handler]:
        """What an API server needs."""
        return {
            "create_limit": self.create,
            "list_limits": self.list,
            "retrieve_limit": self.retrieve,
            "delete_limit": self.delete,
        }

    async def create(self, call: Call) -> Reply:
        """Store a limit or a price, over the one with the same id; with `If-None-Match: *` only if there is none."""
        try:
            record = parse_record(await call.json(), of_batches=True)
        except LimitFormatError as error:
            raise invalid(error.field or "body", error.reason) from None
        if len(record.id) > MAX_ID:
            raise invalid("id", f"at most {MAX_ID} characters; give the record a shorter one")
        await self.room.take()
        call.target.update(msgspec.to_builtins(record))
        version = 0 if call.request.headers.get("if-none-match", "").strip() == "*" else None
        try:
            row = await self.ledger.put(Section.LIMITS, record.id, record, expect_version=version)
        except VersionConflictError:
            raise refuse("exists_already", what=f"The limit {shown(record.id, 80)}") from None
        return Reply(_shown(row))

    async def list(self, call: Call) -> Reply:
        """One page, in the order of ids."""
        return await page_of(call, self.ledger, Section.LIMITS, _shown)

    async def retrieve(self, call: Call) -> Reply:
        """One record."""
        limit_id = call.parameters.get("limit_id", "")
        row = await self.ledger.get(Section.LIMITS, limit_id) if _can_be_id(limit_id) else None
        if row is None:
            raise _no_such_limit(limit_id)
        return Reply(_shown(row))

    async def delete(self, call: Call) -> Reply:
        """Remove a record."""
        limit_id = call.parameters.get("limit_id", "")
        if not _can_be_id(limit_id) or await self.ledger.delete(Section.LIMITS, limit_id) is None:
            raise _no_such_limit(limit_id)
        return Reply({"id": limit_id, "object": "limit", "deleted": True})


async def batch_limits(ledger: ControlLedger) -> Sequence[LimitRecord]:
    """The records that limit batches."""
    rows = await ledger.naming(Section.LIMITS, ENQUEUED)
    return [msgspec.json.decode(row.data, type=LimitRecord) for row in rows if row.data is not None]


def _can_be_id(text: str) -> bool:
    return 0 < len(text) <= MAX_ID and text.isprintable()


def _shown(row: Row) -> dict[str, Any]:
    assert row.data is not None
    fields: dict[str, Any] = msgspec.json.decode(row.data)
    kind = fields.pop("kind", "limit")
    return {"id": row.id, "object": kind} | fields | {"version": row.version}


def _no_such_limit(limit_id: str) -> Exception:
    return refuse("limit_not_found", param="limit_id", id=shown(limit_id, 80))
