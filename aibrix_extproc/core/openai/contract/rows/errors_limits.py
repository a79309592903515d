"""Errors of limits: a caller has used up what it may use."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from aibrix_extproc.core.openai.contract.error_row import SERVER_ERROR, Cause, ErrorRow

_REACHED: Final = (
    "Rate limit reached for {model} on {what}: Limit {limit}, Used {used}, Requested {requested}."
    " Please try again in {wait}."
)

ROWS: Final[Mapping[str, ErrorRow]] = MappingProxyType({
    "request_limit_reached": ErrorRow(
        status=429, type="requests", code="rate_limit_exceeded", retry_after_seconds=1,
        causes=(Cause.LIMITS,),
        message=_REACHED,
        when="a limit of requests, bytes or audio; `retry-after` and `retry-after-ms` say when the request fits",
    ),
    "token_limit_reached": ErrorRow(
        status=429, type="tokens", code="rate_limit_exceeded", retry_after_seconds=1,
        causes=(Cause.LIMITS,),
        message=_REACHED,
        when="a limit of tokens; `retry-after` and `retry-after-ms` say when the request fits",
    ),
    "too_many_concurrent_requests": ErrorRow(
        status=429, type="requests", code="rate_limit_exceeded", retry_after_seconds=1,
        causes=(Cause.LIMITS,),
        message=(
            "Rate limit reached for {model} on concurrent requests: Limit {limit}, Used {used}, Requested 1."
            " Please try again when one has ended."
        ),
        when="as many requests run as the caller may have at once",
    ),
    "insufficient_quota": ErrorRow(
        status=429, type="insufficient_quota", code="insufficient_quota", should_retry=False,
        causes=(Cause.LIMITS,),
        message=(
            "You exceeded your current quota, please check your plan and billing details. The {what} is used up; ask"
            " the operator of this endpoint."
        ),
        when="the budget of this day, week or month is used up",
    ),
    "larger_than_limit": ErrorRow(
        status=400, code="request_larger_than_limit", should_retry=False,
        causes=(Cause.LIMITS,),
        message=(
            "Request too large for {model} on {what}: Limit {limit}, Requested {requested}. It can never pass this"
            " limit; the input or output tokens must be reduced in order to run successfully."
        ),
        when="one request that asks for more than its whole limit",
    ),
    "limits_unavailable": ErrorRow(
        status=503, type=SERVER_ERROR, code="limits_unavailable", retry_after_seconds=1,
        causes=(Cause.LIMITS,),
        message="The limits of this API key cannot be checked at the moment. Please retry shortly.",
        when="Redis cannot be asked, and `rate_limits.when_away` is closed",
    ),
})  # fmt: skip
