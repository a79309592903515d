"""Answers for browsers: preflights are answered here, never forwarded, never authenticated.

A preflight asks for the names of the headers that the page wants to send. They are allowed as they are: a list of ours
would be out of date with the next SDK, and a header that means nothing to us does no harm. What steers engines or comes
from the gateway itself is removed from every request, whoever sends it.
"""

import re
from collections.abc import Mapping
from typing import Final

MAX_ASKED_CHARACTERS: Final = 4096
_NAMES: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:[ \t]*,[ \t]*[!#$%&'*+.^_`|~0-9A-Za-z-]+)*")
ASKED: Final = "access-control-request-headers"
# For a preflight that asks for nothing, or not in the form of a list of names.
_ALLOWED_HEADERS: Final = (
    "authorization, content-type, openai-organization, openai-project, openai-beta, idempotency-key, x-api-key, "
    "anthropic-version, anthropic-beta, routing-strategy, external-filter, config-profile, x-session-id, "
    "x-aibrix-session-key, x-stainless-arch, x-stainless-async, "
    "x-stainless-helper-method, x-stainless-lang, x-stainless-os, x-stainless-package-version, "
    "x-stainless-poll-helper, x-stainless-custom-poll-interval, x-stainless-read-timeout, x-stainless-retry-count, "
    "x-stainless-runtime, x-stainless-runtime-version, x-stainless-timeout"
)
_EXPOSED: Final = (
    "x-request-id, etag, openai-processing-ms, openai-version, retry-after, retry-after-ms, x-should-retry, allow, "
    "x-ratelimit-limit-requests, x-ratelimit-limit-tokens, x-ratelimit-remaining-requests, "
    "x-ratelimit-remaining-tokens, x-ratelimit-reset-requests, x-ratelimit-reset-tokens, x-session-id, "
    "x-aibrix-config-profile"
)


def preflight_headers(request: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Headers of the 204 that answers OPTIONS."""
    return (
        ("access-control-allow-origin", request.get("origin", "*")),
        ("access-control-allow-methods", "GET, POST, PUT, DELETE, OPTIONS"),
        ("access-control-allow-headers", _allowed(request.get(ASKED, ""))),
        ("access-control-max-age", "600"),
        ("vary", "Origin, Access-Control-Request-Headers"),
    )


def _allowed(asked: str) -> str:
    """The headers that the page asked for, if that is a list of header names of bounded length."""
    is_list = len(asked) <= MAX_ASKED_CHARACTERS and _NAMES.fullmatch(asked)
    return asked if is_list else _ALLOWED_HEADERS


def response_headers(origin: str) -> tuple[tuple[str, str], ...]:
    """Headers that let a page at `origin` read an answer and its metadata."""
    return (
        ("access-control-allow-origin", origin),
        ("access-control-expose-headers", _EXPOSED),
        ("vary", "Origin"),
    )
