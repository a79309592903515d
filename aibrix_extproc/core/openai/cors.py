"""Answers for browsers: preflights are answered here, never forwarded, never authenticated."""

from collections.abc import Mapping
from typing import Final

_ALLOWED_HEADERS: Final = (
    "authorization, content-type, openai-organization, openai-project, openai-beta, idempotency-key, x-api-key, "
    "anthropic-version, anthropic-beta, routing-strategy, external-filter, config-profile, x-session-id, "
    "x-aibrix-session-key, x-stainless-arch, x-stainless-async, "
    "x-stainless-helper-method, x-stainless-lang, x-stainless-os, x-stainless-package-version, "
    "x-stainless-poll-helper, x-stainless-custom-poll-interval, x-stainless-read-timeout, x-stainless-retry-count, "
    "x-stainless-runtime, x-stainless-runtime-version, x-stainless-timeout"
)
_EXPOSED: Final = (
    "x-request-id, openai-processing-ms, openai-version, retry-after, retry-after-ms, "
    "x-ratelimit-limit-requests, x-ratelimit-limit-tokens, x-ratelimit-remaining-requests, "
    "x-ratelimit-remaining-tokens, x-ratelimit-reset-requests, x-ratelimit-reset-tokens, x-session-id, "
    "x-aibrix-config-profile"
)


def preflight_headers(request: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Headers of the 204 that answers OPTIONS."""
    return (
        ("access-control-allow-origin", request.get("origin", "*")),
        ("access-control-allow-methods", "GET, POST, DELETE, OPTIONS"),
        ("access-control-allow-headers", _ALLOWED_HEADERS),
        ("access-control-max-age", "600"),
        ("vary", "Origin"),
    )


def response_headers(origin: str) -> tuple[tuple[str, str], ...]:
    """Headers that let a page at `origin` read an answer and its metadata."""
    return (
        ("access-control-allow-origin", origin),
        ("access-control-expose-headers", _EXPOSED),
        ("vary", "Origin"),
    )
