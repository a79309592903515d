"""Turns a reply that Envoy made itself (no engine answered) into a problem for the client.

Envoy says why in `response.code_details` and `response.flags`; the first row that fits wins, then the first flag,
then the status. Envoy's own words are never forwarded: they name hosts, certificates and filters.
"""

import re
from typing import Final

from aibrix_extproc.core.openai.contract.errors import Problem

# Beginning of the details (as a pattern) -> ERRORS row. The reset's reason stands in braces behind the words.
_BY_DETAILS: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), key)
    for pattern, key in (
        (r"no_healthy_upstream|cluster_not_found|upstream_maintenance_mode", "no_healthy_upstream"),
        (r"upstream_reset_\w+\{(?:overflow|connection_pool_overflow)", "overloaded"),
        (r"upstream_reset_\w+\{(?:remote_|local_)?connection_(?:failure|timeout)", "no_healthy_upstream"),
        (r"upstream_reset_\w+\{protocol_error|upstream_protocol_error|http[123]\.[\w.]*upstream", "bad_gateway"),
        (r"upstream_reset_", "upstream_reset"),
        (r"response_timeout|upstream_(?:response_|per_try_)\w*timeout|upstream_max_stream_duration", "timeout"),
        (r"(?:stream_|downstream_)?idle_timeout|request_\w+_timeout|max_duration|duration_timeout", "timeout"),
        (r"request_payload_too_large|request_entity_too_large", "request_too_large"),
        (r"response_payload_too_large|mismatch_between_content_length", "upstream_error"),
        (r"request_headers_too_large|http\d\.(?:too_many_headers|headers_too_large|header_size)", "headers_too_large"),
        (r"(?:local_|request_|global_)?rate_limited", "rate_limited"),
        (r"overload|drop_overload|upstream_overflow", "overloaded"),
        (r"missing_api_key|no_credential|jwt_authn_access_denied\{jwt_is_missing", "missing_api_key"),
        (r"un\w+_api_key|invalid_credential|jwt_authn_access_denied", "invalid_api_key"),
        (r"rbac_access_denied|ext_authz_denied|csrf_|unauthorized", "permission_denied"),
        (r"ext_authz_error|rate_limiter_error|ext_proc|direct_response", "gateway_unavailable"),
        (r"route_not_found", "not_found"),
        (r"upgrade_failed", "upgrade_refused"),
    )
)

# Bits of response.flags -> ERRORS row, for details that a newer Envoy may have.
_BY_FLAG: Final = (
    (0x2, "no_healthy_upstream"),  # UH
    (0x4, "timeout"),  # UT
    (0x20, "no_healthy_upstream"),  # UF: no connection
    (0x40, "upstream_reset"),  # UC: connection closed
    (0x80, "overloaded"),  # UO
    (0x10, "upstream_reset"),  # UR
    (0x8, "upstream_reset"),  # LR
    (0x800, "rate_limited"),  # RL
    (0x10000, "timeout"),  # SI
    (0x80000, "timeout"),  # UMSDR
    (0x400000, "timeout"),  # DT
    (0x800000, "bad_gateway"),  # UPE
    (0x1000000, "no_healthy_upstream"),  # NC
    (0x2000000, "overloaded"),  # OM
    (0x4000000, "no_healthy_upstream"),  # DF
    (0x8000000, "overloaded"),  # DO
    (0x100, "not_found"),  # NR
)

_BY_STATUS: Final = {
    401: "missing_api_key",
    403: "permission_denied",
    404: "not_found",
    408: "timeout",  # a 408 would make SDKs repeat the request at once
    413: "request_too_large",
    429: "rate_limited",
    431: "headers_too_large",
    502: "bad_gateway",
    503: "gateway_unavailable",
    504: "timeout",
}

# Details that say one thing for a request and another for what else shares them: only with these statuses.
_ONLY_WITH: Final = {
    "missing_api_key": (401,),
    "invalid_api_key": (401,),
    "permission_denied": (403,),
    "gateway_unavailable": (500, 502, 503, 504),
}


def problem_from_local_reply(status: int, code_details: str, flags: int, *, max_body_bytes: int) -> Problem:
    """The problem that replaces a reply of Envoy's own."""
    key = _by_details(status, code_details) or _by_flags(status, flags) or _by_status(status)
    return Problem(key, _values(key, max_body_bytes))


def _by_details(status: int, code_details: str) -> str | None:
    for pattern, key in _BY_DETAILS:
        if pattern.match(code_details) and status in _ONLY_WITH.get(key, (status,)):
            return key
    return None


def _by_flags(status: int, flags: int) -> str | None:
    if status < 500:  # flags tell why there was no answer; a refusal of the request stays one
        return None
    return next((key for bit, key in _BY_FLAG if flags & bit), None)


def _by_status(status: int) -> str:
    return _BY_STATUS.get(status, "upstream_error" if status >= 500 or status < 400 else "bad_request")


def _values(key: str, max_body_bytes: int) -> dict[str, str]:
    match key:
        case "request_too_large":
            return {"limit": str(max_body_bytes)}
        case "invalid_api_key":
            return {"key": "***"}
        case "permission_denied":
            return {"what": "this endpoint"}
        case "not_found":
            return {"message": "Invalid URL: there is no route for this request."}
        case "rate_limited":
            return {"message": "Rate limit reached. Please try again in 1s."}
        case "bad_request":
            return {"message": "The request is not valid HTTP, or its headers are not acceptable."}
    return {}
