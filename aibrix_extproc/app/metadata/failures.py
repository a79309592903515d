"""Answers of the API when its storage fails: a 503 that says so, never a 500."""

import logging
from collections.abc import Mapping
from functools import wraps

from aibrix_extproc.adapters.blobs.store import BlobError, BlobsFullError
from aibrix_extproc.adapters.ledger.errors import STATEMENT_ERRORS, DatabaseError, is_full
from aibrix_extproc.adapters.openai_http.call import AnyReply, Call, ContentError, Handler, RefusedError, refuse

logger = logging.getLogger(__name__)


def with_storage_refusals(handlers: Mapping[str, Handler]) -> dict[str, Handler]:
    """The same handlers, whose failures of database and blob store are refusals."""
    return {name: _with_refusals(name, handler) for name, handler in handlers.items()}


def _with_refusals(name: str, handler: Handler) -> Handler:
    @wraps(handler)
    async def refusing(call: Call) -> AnyReply:
        try:
            return await handler(call)
        except STATEMENT_ERRORS:  # a bug of ours
            raise
        except (DatabaseError, BlobError, ContentError) as error:
            logger.warning("storage failed", extra={"operation": name, "error": repr(error)[:300]})
            raise _refusal(error) from error

    return refusing


def _refusal(error: Exception) -> RefusedError:
    full = isinstance(error, BlobsFullError) or is_full(error)
    return refuse("insufficient_storage" if full else "storage_unavailable")
