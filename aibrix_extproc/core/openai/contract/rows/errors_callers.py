"""Errors of callers: no key, a bad one, or one that may not do this."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from aibrix_extproc.core.openai.contract.error_row import SERVER_ERROR, Cause, ErrorRow

ROWS: Final[Mapping[str, ErrorRow]] = MappingProxyType({
    "missing_api_key": ErrorRow(
        status=401,
        causes=(Cause.KEY,),
        message=(
            "You didn't provide an API key. Send it in an Authorization header using Bearer auth (Authorization: "
            "Bearer YOUR_KEY)."
        ),
        when="no usable Authorization header, and the gateway wants keys",
    ),
    "invalid_api_key": ErrorRow(
        status=401, code="invalid_api_key",
        causes=(Cause.KEY,),
        message="Incorrect API key provided: {key}. Ask the operator of this endpoint for a valid one.",
        when="a key that the gateway does not know",
    ),
    "expired_api_key": ErrorRow(
        status=401, code="invalid_api_key",
        causes=(Cause.KEY,),
        message="Incorrect API key provided: {key}. It has expired; ask the operator of this endpoint for a new one.",
        when="a known key after its time",
    ),
    "keys_unknown": ErrorRow(
        status=503, type=SERVER_ERROR, code="keys_unknown", retry_after_seconds=2,
        causes=(Cause.KEY,),
        message="The gateway does not know its API keys yet. Please retry shortly.",
        when="start-up, before the key file could be read",
    ),
    "permission_denied": ErrorRow(
        status=403, code="permission_denied",
        causes=(Cause.KEY,),
        message="This API key is not allowed to use {what}.",
        when="a known key without the permission for an operation",
    ),
})  # fmt: skip
