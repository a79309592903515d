"""Every refusal that a client can see, as one table, and the one function that shapes it. Rows stand in `rows/`.

A `Problem` is a row of `ERRORS` with its parameters. Clients branch on the status and on these four fields only:
message, type, param, code (all four always present, code never a number), so the texts are ours; the substrings
that clients are known to search for are kept ("does not exist", "maximum context length", "Incorrect API key").
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from aibrix_extproc.core.openai.contract.error_row import ErrorRow
from aibrix_extproc.core.openai.contract.rows import (
    errors_callers,
    errors_control,
    errors_desired,
    errors_engines,
    errors_limits,
    errors_operations,
    errors_placement,
    errors_requests,
    errors_runs,
    errors_storage,
)

RETRY_AFTER_MIN_SECONDS: Final = 1
RETRY_AFTER_MAX_SECONDS: Final = 60  # SDKs sleep the whole value or give up above 120


@dataclass(frozen=True, slots=True)
class Problem:
    """A refusal for the client. `param` and `code` override the row's where the engine's answer has more."""

    key: str
    values: Mapping[str, str] = field(default_factory=dict)
    param: str | None = None
    code: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    status: int | None = None  # only for rows that stand for a family of upstream statuses
    members: Mapping[str, object] = field(default_factory=dict)  # of the error object beside OpenAI's four

    @property
    def row(self) -> ErrorRow:
        """The table row behind this problem."""
        return ERRORS[self.key]

    @property
    def http_status(self) -> int:
        """The status that the client sees."""
        return self.status or self.row.status


@dataclass(frozen=True, slots=True)
class Shaped:
    """A problem as it goes over the wire."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


ERRORS: Final[Mapping[str, ErrorRow]] = MappingProxyType(
    {
        **errors_callers.ROWS,
        **errors_limits.ROWS,
        **errors_requests.ROWS,
        **errors_placement.ROWS,
        **errors_engines.ROWS,
        **errors_storage.ROWS,
        **errors_control.ROWS,
        **errors_desired.ROWS,
        **errors_operations.ROWS,
        **errors_runs.ROWS,
    }
)


def error_object(problem: Problem) -> dict[str, str | None]:
    """OpenAI's inner error object: message, type, param, code; without members of the problem's own."""
    row = problem.row
    return {
        "message": row.message.format_map(problem.values) if problem.values else row.message,
        "type": row.type,
        "param": problem.param if problem.param is not None else row.param,
        "code": problem.code if problem.code is not None else row.code,
    }


def shape(problem: Problem, *, anthropic: bool = False, request_id: str = "") -> Shaped:
    """The answer that an OpenAI (or Anthropic) client expects; the x-request-id header is the exchange's to add."""
    row = problem.row
    headers = [("content-type", "application/json"), *problem.headers]
    given = {name for name, _ in problem.headers}
    if row.retry_after_seconds is not None and "retry-after" not in given:
        headers.append(("retry-after", str(row.retry_after_seconds)))
    if row.should_retry is not None and "x-should-retry" not in given:
        headers.append(("x-should-retry", "true" if row.should_retry else "false"))
    content = _anthropic(problem, request_id) if anthropic else {"error": {**error_object(problem), **problem.members}}
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return Shaped(problem.http_status, tuple(headers), body.encode("utf-8", "replace"))


_ANTHROPIC_TYPES: Final[Mapping[int, str]] = MappingProxyType(
    {
        401: "authentication_error",
        403: "permission_error",
        404: "not_found_error",
        413: "request_too_large",
        429: "rate_limit_error",
        503: "overloaded_error",
        504: "timeout_error",
    }
)


def _anthropic(problem: Problem, request_id: str) -> dict[str, object]:
    """Anthropic's error envelope, for its own operations only."""
    status = problem.http_status
    kind = _ANTHROPIC_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    message = error_object(problem)["message"]
    named = {"request_id": request_id} if request_id else {}  # Envoy's own answer is written before there is one
    return {"type": "error", "error": {"type": kind, "message": message}, **named}


def masked(key: str) -> str:
    """A key as it may be shown to the one who sent it: its first and last few characters."""
    return f"{key[:3]}***{key[-4:]}" if len(key) >= 16 else "***"
