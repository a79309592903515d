"""One row of the table of errors, and the causes that rows name."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

INVALID_REQUEST: Final = "invalid_request_error"
SERVER_ERROR: Final = "server_error"


class Cause(StrEnum):
    """Where an error comes from, in the order in which a request meets them. `operation_errors` describes each."""

    KEY = "key"
    LIMITS = "limits"
    ADDRESS = "address"
    PROTOCOL = "protocol"
    HEALTH = "health"
    BODY = "body"
    JSON = "json"
    FORM = "form"
    PLACEMENT = "placement"
    OWNER = "owner"
    REFUSAL = "refusal"
    FAILURE = "failure"
    MODELS = "models"
    STORED = "stored"
    SERVICE = "service"
    ENGINES = "engines"
    GATEWAY = "gateway"


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorRow:
    """One kind of refusal: what the status line, the body and the retry headers say."""

    status: int
    type: str = INVALID_REQUEST
    code: str | None = None
    param: str | None = None
    retry_after_seconds: int | None = None
    should_retry: bool | None = None  # x-should-retry, read by the SDKs before the status
    causes: tuple[Cause, ...]
    message: str  # a str.format template; its fields come from Problem.values
    when: str  # the description in docs/errors.md and docs/api.md
