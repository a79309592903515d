"""Cordons over the API: `/admin/v1/cordons`. Gateways apply a new one within a second."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from aibrix_extproc.adapters.ledger.control import ControlLedger
from aibrix_extproc.adapters.openai_http.call import Call, Handler, Reply, refuse
from aibrix_extproc.app.metadata.control_records import body_of, checked_text, decoded, invalid, page_of
from aibrix_extproc.core.control.rows import Row, Section
from aibrix_extproc.core.files import ids
from aibrix_extproc.core.fleet.cordons import Cordon
from aibrix_extproc.core.fleet.selector import MAX_SELECTOR_CHARACTERS, InvalidSelector, parse_selector
from aibrix_extproc.core.openai.contract.operations import shown

MAX_CORDONS: Final = 1_000
MAX_SECONDS: Final = 30 * 86_400


class NewCordon(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request."""

    endpoint: str = ""  # identity or address
    pod: str = ""
    selector: str = ""
    reason: str = ""
    expires_in: float | None = None  # seconds


@dataclass(frozen=True, slots=True)
class CordonApi:
    """Handlers by operation id. `wall_clock`: the database's."""

    ledger: ControlLedger
    wall_clock: Callable[[], float]
    entropy: Callable[[int], bytes]

    def handlers(self) -> Mapping[str, Handler]:
        """What an API server needs."""
        return {
            "create_cordon": self.create,
            "list_cordons": self.list,
            "retrieve_cordon": self.retrieve,
            "delete_cordon": self.delete,
        }

    async def create(self, call: Call) -> Reply:
        """Cordon endpoints."""
        _require_all_models(call)
        asked = await body_of(call, NewCordon)
        cordon = _checked(asked, call.caller, self.wall_clock())
        call.target.update(msgspec.structs.asdict(asked))
        if (await self.ledger.page(Section.CORDONS, None, MAX_CORDONS - 1))[1]:
            raise invalid("body", f"there are {MAX_CORDONS} cordons already; delete some, or cordon by a selector")
        cordon_id = ids.cordon_id(self.entropy(ids.ENTROPY_BYTES))
        row = await self.ledger.put(Section.CORDONS, cordon_id, cordon, expect_version=0)
        call.target["cordon_id"] = cordon_id
        return Reply(_shown(row, cordon))

    async def list(self, call: Call) -> Reply:
        """One page."""
        now = self.wall_clock()

        def show(row: Row) -> dict[str, Any] | None:
            cordon = decoded(row, Cordon)
            return None if cordon.is_over(now) else _shown(row, cordon)

        return await page_of(call, self.ledger, Section.CORDONS, show)

    async def retrieve(self, call: Call) -> Reply:
        """One cordon."""
        row = await self._found(call)
        return Reply(_shown(row, decoded(row, Cordon)))

    async def delete(self, call: Call) -> Reply:
        """End a cordon. A running operation that it belongs to makes a new one, or stops."""
        _require_all_models(call)
        row = await self._found(call)
        if await self.ledger.delete(Section.CORDONS, row.id) is None:
            raise _no_such_cordon(row.id)
        return Reply({"id": row.id, "object": "cordon", "deleted": True})

    async def _found(self, call: Call) -> Row:
        cordon_id = call.parameters.get("cordon_id", "")
        row = await self.ledger.get(Section.CORDONS, cordon_id) if ids.is_id(cordon_id) else None
        if row is None or decoded(row, Cordon).is_over(self.wall_clock()):
            raise _no_such_cordon(cordon_id)
        return row


def _require_all_models(call: Call) -> None:
    """A cordon is for all models of an endpoint, so an operator of some of them may not change one."""
    if not call.principal.is_admin and call.principal.grants.models is not None:
        raise refuse("permission_denied", what="cordons: they concern all models of an endpoint")


def _checked(asked: NewCordon, caller: str, wall_now: float) -> Cordon:
    if sum(bool(one) for one in (asked.endpoint, asked.pod, asked.selector)) != 1:
        raise invalid("body", "name one of endpoint, pod and selector")
    if asked.expires_in is not None and not 1 <= asked.expires_in <= MAX_SECONDS:
        raise invalid("expires_in", f"seconds from 1 to {MAX_SECONDS}")
    endpoint = checked_text("endpoint", asked.endpoint)
    selector = checked_text("selector", asked.selector, MAX_SELECTOR_CHARACTERS)
    try:
        parse_selector(selector)
    except InvalidSelector as error:
        raise invalid("selector", str(error)) from None
    if selector and not selector.strip():
        raise invalid("selector", "it would select every endpoint")
    return Cordon(
        identity=endpoint, address=endpoint, pod=checked_text("pod", asked.pod), selector=selector,
        reason=checked_text("reason", asked.reason), by=caller, wall_created_at=wall_now,
        wall_expires_at=None if asked.expires_in is None else wall_now + asked.expires_in,
    )  # fmt: skip


def _shown(row: Row, cordon: Cordon) -> dict[str, Any]:
    return {
        "id": row.id,
        "object": "cordon",
        "endpoint": cordon.identity or cordon.address or None,
        "pod": cordon.pod or None,
        "selector": cordon.selector or None,
        "reason": cordon.reason,
        "operation_run": cordon.owner or None,
        "by": cordon.by,
        "created_at": int(cordon.wall_created_at),
        "expires_at": None if cordon.wall_expires_at is None else int(cordon.wall_expires_at),
        "version": row.version,
    }


def _no_such_cordon(cordon_id: str) -> Exception:
    return refuse("cordon_not_found", param="cordon_id", id=shown(cordon_id, 80))
