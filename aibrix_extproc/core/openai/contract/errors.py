"""Every refusal a client can see, as one table, and the one function that shapes it.

A `Problem` is a row of `ERRORS` with its parameters. Clients branch on the status and on these four fields only:
message, type, param, code (all four always present, code never a number), so the texts are ours; the substrings
that clients are known to search for are kept ("does not exist", "maximum context length", "Incorrect API key").
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from aibrix_extproc.core.openai.contract.error_row import INVALID_REQUEST, SERVER_ERROR, ErrorRow
from aibrix_extproc.core.openai.contract.storage_errors import STORAGE_ROWS

RETRY_AFTER_MIN_SECONDS: Final = 1
RETRY_AFTER_MAX_SECONDS: Final = 60  # SDKs sleep the whole value or give up above 120


@dataclass(frozen=True, slots=True)
class Problem:
    """A refusal for the client. `param` and `code` override the row's when the engine told us more."""

    key: str
    values: Mapping[str, str] = field(default_factory=dict)
    param: str | None = None
    code: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    status: int | None = None  # only for rows that stand for a family of upstream statuses

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


_ROWS: Final[dict[str, ErrorRow]] = {
    # key: status, type, code, param, message, when, retry-after, should-retry
    "missing_api_key": ErrorRow(
        401, INVALID_REQUEST, None, None,
        "You didn't provide an API key. Send it in an Authorization header using Bearer auth "
        "(Authorization: Bearer YOUR_KEY).",
        "no usable Authorization header, and the gateway wants keys",
    ),
    "invalid_api_key": ErrorRow(
        401, INVALID_REQUEST, "invalid_api_key", None,
        "Incorrect API key provided: {key}. Ask the operator of this endpoint for a valid one.",
        "a key that the gateway does not know",
    ),
    "expired_api_key": ErrorRow(
        401, INVALID_REQUEST, "invalid_api_key", None,
        "Incorrect API key provided: {key}. It has expired; ask the operator of this endpoint for a new one.",
        "a known key after its time",
    ),
    "keys_unknown": ErrorRow(
        503, SERVER_ERROR, "keys_unknown", None,
        "The gateway does not know its API keys yet. Please retry shortly.",
        "start-up, before the key file could be read", 2,
    ),
    "permission_denied": ErrorRow(
        403, INVALID_REQUEST, "permission_denied", None,
        "This API key is not allowed to use {what}.",
        "a known key without the permission for an operation",
    ),
    "model_not_found": ErrorRow(
        404, INVALID_REQUEST, "model_not_found", None,
        "The model `{model}` does not exist or you do not have access to it.",
        "no endpoint of the fleet serves the model",
    ),
    "model_not_found_retrieve": ErrorRow(
        404, INVALID_REQUEST, "model_not_found", "model",
        "The model '{model}' does not exist",
        "GET /v1/models/{id} of an unknown model",
    ),
    "model_delete_refused": ErrorRow(
        403, INVALID_REQUEST, "permission_denied", None,
        "You have insufficient permissions to delete the model '{model}'.",
        "DELETE /v1/models/{id}",
    ),
    "model_not_ready": ErrorRow(
        503, SERVER_ERROR, "model_not_ready", None,
        "The model `{model}` has no engine that is ready at the moment. Please retry shortly.",
        "the model is known, none of its endpoints is ready", 5,
    ),
    "fleet_unknown": ErrorRow(
        503, SERVER_ERROR, "fleet_unknown", None,
        "The gateway does not know its engines yet. Please retry shortly.",
        "start-up, before the first fleet was read", 2,
    ),
    "model_wrong_task": ErrorRow(
        400, INVALID_REQUEST, "unsupported_endpoint", "model",
        "The model '{model}' does not support this endpoint.",
        "the engine that serves the model has no such route",
    ),
    "missing_model": ErrorRow(
        400, INVALID_REQUEST, None, None,
        "you must provide a model parameter",
        "no model in the request",
    ),
    "empty_model": ErrorRow(
        400, INVALID_REQUEST, "invalid_value", "model",
        "Invalid value for 'model': expected a non-empty string.",
        "model is an empty string",
    ),
    "invalid_type": ErrorRow(
        400, INVALID_REQUEST, "invalid_type", None,
        "Invalid type for '{param}': expected {expected}, but got {got} instead.",
        "a field of the wrong JSON type",
    ),
    "invalid_value": ErrorRow(
        400, INVALID_REQUEST, "invalid_value", None,
        "{message}",
        "a value that the engine refuses",
    ),
    "missing_required_parameter": ErrorRow(
        400, INVALID_REQUEST, "missing_required_parameter", None,
        "Missing required parameter: '{param}'.",
        "a required field is absent",
    ),
    "unsupported_parameter": ErrorRow(
        400, INVALID_REQUEST, "unsupported_parameter", None,
        "{message}",
        "a parameter that this model or engine cannot serve",
    ),
    "media_url_refused": ErrorRow(
        400, INVALID_REQUEST, "invalid_image_url", None,
        "Invalid URL of an image, audio, video or file: {reason}.",
        "a URL that engines would fetch, of a host that `limits.media_hosts` does not have",
    ),
    "engine_control": ErrorRow(
        400, INVALID_REQUEST, "unsupported_parameter", None,
        "Unsupported parameter: '{param}' steers the engine, which this caller is not allowed to do.",
        "a parameter that steers the engine, from a caller without `engine_controls`",
    ),
    "unsupported_value": ErrorRow(
        400, INVALID_REQUEST, "unsupported_value", None,
        "{message}",
        "a value that this model or engine cannot serve",
    ),
    "unknown_parameter": ErrorRow(
        400, INVALID_REQUEST, "unknown_parameter", None,
        "Unknown parameter: '{param}'.",
        "a field that the engine's schema forbids",
    ),
    "invalid_image_url": ErrorRow(
        400, INVALID_REQUEST, "invalid_image_url", None,
        "The engine could not fetch the image, audio or video that the request names.",
        "an engine failed to download or decode media from a URL",
    ),
    "stream_options_without_stream": ErrorRow(
        400, INVALID_REQUEST, None, "stream_options",
        "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
        "stream_options without stream: true",
    ),
    "context_length_exceeded": ErrorRow(
        400, INVALID_REQUEST, "context_length_exceeded", None,
        "{message}",
        "the prompt does not fit into the model's context",
    ),
    "malformed_json": ErrorRow(
        400, INVALID_REQUEST, None, None,
        "We could not parse the JSON body of your request. The API expects a JSON object as payload.",
        "the body is empty, not JSON, not UTF-8 or not an object",
    ),
    "malformed_multipart": ErrorRow(
        400, INVALID_REQUEST, None, None,
        "We could not parse the multipart form data of your request: {reason}.",
        "a form body without boundary, cut short or out of shape",
    ),
    "unsupported_content_type": ErrorRow(
        400, INVALID_REQUEST, "unsupported_content_type", None,
        "Unsupported content type: '{given}'. This API method only accepts '{accepted}' requests.",
        "a body of another media type",
    ),
    "unsupported_content_encoding": ErrorRow(
        415, INVALID_REQUEST, "unsupported_content_encoding", None,
        "Unsupported content encoding: '{given}'. Send the request body without compression.",
        "a compressed request body",
    ),
    "request_too_large": ErrorRow(
        413, INVALID_REQUEST, "request_too_large", None,
        "Request body is too large. Maximum is {limit} bytes.",
        "a body over the limit, with or without content-length",
    ),
    "audio_too_large": ErrorRow(
        413, SERVER_ERROR, None, None,
        "413: Maximum content size limit ({limit}) exceeded ({size} bytes read)",
        "an audio form over `limits.max_audio_bytes`, OpenAI's 25 MiB",
    ),
    "headers_too_large": ErrorRow(
        431, INVALID_REQUEST, "headers_too_large", None,
        "The headers of the request are too large.",
        "request headers over Envoy's limit",
    ),
    "unknown_url": ErrorRow(
        404, INVALID_REQUEST, None, None,
        "Invalid URL ({method} {path})",
        "an unknown path below /v1",
    ),
    "unknown_url_outside": ErrorRow(
        404, INVALID_REQUEST, "unknown_url", None,
        "Unknown request URL: {method} {path}. Please check the URL for typos; the API lives below /v1.",
        "an unknown path outside /v1",
    ),
    "method_not_allowed": ErrorRow(
        405, INVALID_REQUEST, "method_not_supported", None,
        "Not allowed to {method} on {path}. (HINT: Perhaps you meant to use a different HTTP method?)",
        "a known path with another method; the Allow header lists the right ones",
    ),
    "upgrade_refused": ErrorRow(
        426, INVALID_REQUEST, "upgrade_refused", None,
        "This API does not speak WebSocket or any other protocol on top of HTTP. Send the same request as plain HTTP, "
        "and 'stream': true for events.",
        "a request that asks to switch protocols; clients that can fall back to HTTP do so at once",
    ),
    "stream_over_http_1_0": ErrorRow(
        426, INVALID_REQUEST, "stream_over_http_1_0", "stream",
        "Streams need HTTP/1.1 or HTTP/2: over HTTP/1.0 one that breaks off looks complete. A proxy in front of the "
        "gateway must speak HTTP/1.1 to it (nginx: proxy_http_version 1.1).",
        "an answer that streams to a client or proxy that speaks HTTP/1.0",
    ),
    "no_engine_ready": ErrorRow(
        503, SERVER_ERROR, "no_engine_ready", None,
        "The gateway is up, but none of its engines is ready.",
        "the health path, while no engine of any model is ready", 5,
    ),
    "bad_request": ErrorRow(
        400, INVALID_REQUEST, None, None,
        "{message}",
        "the engine or Envoy refused the request for another reason",
    ),
    "unknown_strategy": ErrorRow(
        400, INVALID_REQUEST, "invalid_value", "routing-strategy",
        "Invalid value for header 'routing-strategy': '{given}'. Supported values are: {supported}.",
        "the header routing-strategy names no strategy",
    ),
    "unsupported_strategy": ErrorRow(
        400, INVALID_REQUEST, "unsupported_value", "routing-strategy",
        "Unsupported value for header 'routing-strategy': '{given}'. {reason} Supported values are: {supported}.",
        "the header routing-strategy names what only AIBrix's own gateway has",
    ),
    "invalid_external_filter": ErrorRow(
        400, INVALID_REQUEST, "invalid_value", "external-filter",
        "Invalid value for header 'external-filter': {reason}. It is a Kubernetes label selector.",
        "the header external-filter cannot be read",
    ),
    "no_matching_engine": ErrorRow(
        503, SERVER_ERROR, "no_matching_engine", "external-filter",
        "No engine of the model `{model}` matches the header 'external-filter'.",
        "the header external-filter leaves none of the model's endpoints, ready or not", 5, should_retry=False,
    ),
    "not_found": ErrorRow(
        404, INVALID_REQUEST, None, None,
        "{message}",
        "the engine does not know the object that the path names",
    ),
    "previous_response_not_found": ErrorRow(
        400, INVALID_REQUEST, "previous_response_not_found", "previous_response_id",
        "Previous response with id '{response_id}' not found.",
        "previous_response_id names no response of this caller, or its engine has lost it; send the history again",
    ),
    "conflict": ErrorRow(
        409, INVALID_REQUEST, None, None, "{message}", "the engine's state refuses the request", should_retry=False,
    ),
    "rate_limited": ErrorRow(
        429, "requests", "rate_limit_exceeded", None,
        "{message}",
        "an engine answered 429", 1,
    ),
    "internal_error": ErrorRow(
        500, SERVER_ERROR, "internal_error", None,
        "The server had an error while processing your request. Sorry about that! (request id {request_id})",
        "a bug of ours, before the response has begun",
    ),
    "upstream_error": ErrorRow(
        500, SERVER_ERROR, None, None,
        "The server had an error while processing your request. Sorry about that!",
        "the engine failed with 5xx",
    ),
    "bad_gateway": ErrorRow(
        502, SERVER_ERROR, "bad_gateway", None,
        "The engine gave an answer that is not valid HTTP. Please retry your request.",
        "the engine broke the protocol or answered 502", 1,
    ),
    "gateway_busy": ErrorRow(
        503, SERVER_ERROR, "gateway_busy", None,
        "The gateway has too many large requests to read at the moment. Please retry shortly.",
        "a large body that the reader of large bodies could not read in time", 2,
    ),
    "overloaded": ErrorRow(
        503, SERVER_ERROR, "overloaded", None,
        "That model is currently overloaded with other requests. Please retry your request shortly.",
        "every candidate refused with 503", 2,
    ),
    "no_healthy_upstream": ErrorRow(
        503, SERVER_ERROR, "no_healthy_upstream", None,
        "No engine could take the request at the moment. Please retry shortly.",
        "no candidate could be reached at all", 1,
    ),
    "upstream_reset": ErrorRow(
        503, SERVER_ERROR, "upstream_reset", None,
        "The engine went away before it answered. Please retry your request.",
        "every candidate reset the connection before the first byte", 1,
    ),
    "timeout": ErrorRow(
        504, SERVER_ERROR, "timeout", None,
        "Request timed out.",
        "the engine did not answer within the deadline",
    ),
    "gateway_unavailable": ErrorRow(
        503, SERVER_ERROR, "gateway_unavailable", None,
        "The gateway is temporarily unavailable. Please retry shortly.",
        "ext_proc is down, draining or too slow; answered by Envoy alone", 1,
    ),
}  # fmt: skip

ERRORS: Final[Mapping[str, ErrorRow]] = MappingProxyType({**_ROWS, **STORAGE_ROWS})


def error_object(problem: Problem) -> dict[str, str | None]:
    """OpenAI's inner error object: message, type, param, code."""
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
    content = _anthropic(problem, request_id) if anthropic else {"error": error_object(problem)}
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
