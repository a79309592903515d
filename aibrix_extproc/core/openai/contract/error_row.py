"""One row of the table of errors."""

from dataclasses import dataclass
from typing import Final

INVALID_REQUEST: Final = "invalid_request_error"
SERVER_ERROR: Final = "server_error"


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """One kind of refusal: what the status line, the body and the retry headers say."""

    status: int
    type: str
    code: str | None
    param: str | None
    message: str  # a str.format template; its fields come from Problem.values
    when: str  # for the reference page
    retry_after_seconds: int | None = None
    should_retry: bool | None = None  # x-should-retry, read by the SDKs before the status
