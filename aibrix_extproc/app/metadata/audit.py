"""The audit: every handler of a row that is not for users, and that changes something, is recorded.

The entry is written before the action, with the result `started`, so that nothing happens unrecorded: without a
ledger such an action is a 503. Its result is written afterwards.
"""

import json
import logging
from collections.abc import Mapping
from functools import wraps
from typing import Final

from aibrix_extproc.adapters.ledger.audit import AuditEntry, AuditLedger
from aibrix_extproc.adapters.ledger.errors import DatabaseError
from aibrix_extproc.adapters.openai_http.call import AnyReply, Call, Handler, RefusedError, Reply, good, refuse
from aibrix_extproc.core.openai.contract.operation_rows import OPERATIONS
from aibrix_extproc.core.openai.contract.operations import Role
from aibrix_extproc.core.openai.contract.paging import list_object, read_page

logger = logging.getLogger(__name__)

_AUDITED: Final = frozenset(row.id for row in OPERATIONS if row.role is not Role.USER and row.method != "GET")


def audited(ledger: AuditLedger, handlers: Mapping[str, Handler]) -> dict[str, Handler]:
    """The same handlers; those that operators change something with are recorded.

    The target of an entry has the parameters of path and query, and what the handler adds to `Call.target`.
    """
    return {
        name: _audited(ledger, name, handler) if name in _AUDITED else handler for name, handler in handlers.items()
    }


def _audited(ledger: AuditLedger, operation: str, handler: Handler) -> Handler:
    @wraps(handler)
    async def recorded(call: Call) -> AnyReply:
        who = call.principal
        call.target.update({**call.query, **call.parameters})
        entry = await ledger.begin(who.name, who.grants.key_id, operation, call.target, call.request_id)
        result = "interrupted"
        try:
            reply = await handler(call)
            result = "ok" if reply.status < 400 else str(reply.status)
            return reply
        except RefusedError as error:
            result = error.problem.key
            raise
        except Exception:
            result = "failed"
            raise
        finally:
            logger.info(
                "operation of operators",
                extra={
                    "caller": who.name, "key_id": who.grants.key_id, "operation": operation, "target": call.target,
                    "result": result, "request_id": call.request_id,
                },
            )  # fmt: skip
            await _end(ledger, entry, call.target, result)

    return recorded


async def _end(ledger: AuditLedger, entry: int, target: Mapping[str, object], result: str) -> None:
    try:
        await ledger.end(entry, target, result)
    except DatabaseError as error:  # the action is done; the entry stays `started`, and the log has the result
        logger.error("the end of an operation was not recorded", extra={"entry": entry, "error": repr(error)[:300]})


class AuditApi:
    """Handlers that read the audit."""

    def __init__(self, ledger: AuditLedger) -> None:
        self._ledger = ledger

    def handlers(self) -> Mapping[str, Handler]:
        """By operation id."""
        return {"list_audit": self.list}

    async def list(self, call: Call) -> Reply:
        """One page, the newest entry first; filtered by caller and operation."""
        page = good(read_page(call.query, default=100, largest=1000))
        if page.after is not None and not (page.after.isascii() and page.after.isdigit() and len(page.after) < 18):
            raise refuse("invalid_value", param="after", message="Invalid value: 'after' is no id of an entry.")
        found, has_more = await self._ledger.page(
            before=None if page.after is None else int(page.after), limit=page.limit,
            caller=call.query.get("caller") or None, operation=call.query.get("operation") or None,
        )  # fmt: skip
        return Reply(list_object([_shown(one) for one in found], has_more=has_more))


def _shown(entry: AuditEntry) -> dict[str, object]:
    return {
        "id": str(entry.id),
        "object": "audit.entry",
        "at": entry.at,
        "caller": entry.caller,
        "key_id": entry.key_id,
        "operation": entry.operation,
        "target": json.loads(bytes(entry.target)),
        "result": entry.result,
        "request_id": entry.request_id,
    }
