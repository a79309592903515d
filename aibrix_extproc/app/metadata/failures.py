"""Answers of the API when its storage fails: a 503 that says so, never a 500."""

import logging
from collections.abc import Mapping
from functools import wraps

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError, SQLAlchemyError

from aibrix_extproc.adapters.blobs.store import BlobError, BlobsFullError
from aibrix_extproc.adapters.openai_http.call import (
    Call,
    ContentError,
    Handler,
    RefusedError,
    Reply,
    StreamReply,
    refuse,
)

logger = logging.getLogger(__name__)

_BUGS = (DataError, IntegrityError, ProgrammingError)  # the database works, and does not like what we say


def telling(handlers: Mapping[str, Handler]) -> dict[str, Handler]:
    """The same handlers, whose failures of database and blob store are refusals."""
    return {name: _telling(name, handler) for name, handler in handlers.items()}


def _telling(name: str, handler: Handler) -> Handler:
    @wraps(handler)
    async def told(call: Call) -> Reply | StreamReply:
        try:
            return await handler(call)
        except _BUGS:
            raise
        except (SQLAlchemyError, BlobError, ContentError) as error:
            logger.warning("storage failed", extra={"operation": name, "error": repr(error)[:300]})
            raise _refusal(error) from error

    return told


def _refusal(error: Exception) -> RefusedError:
    full = isinstance(error, BlobsFullError) or (isinstance(error, DBAPIError) and "is full" in str(error.orig))
    return refuse("insufficient_storage" if full else "storage_unavailable")
