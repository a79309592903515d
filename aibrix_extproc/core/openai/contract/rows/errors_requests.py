"""Errors of a request that are found before an engine is chosen: its address, its protocol, its body."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from aibrix_extproc.core.openai.contract.error_row import SERVER_ERROR, Cause, ErrorRow

ROWS: Final[Mapping[str, ErrorRow]] = MappingProxyType({
    # in the order in which a request meets them
    "unknown_url": ErrorRow(
        status=404,
        causes=(Cause.ADDRESS, Cause.REFUSAL, Cause.SERVICE),
        message="Invalid URL ({method} {path})",
        when="an unknown path below /v1",
    ),
    "unknown_url_outside": ErrorRow(
        status=404, code="unknown_url",
        causes=(Cause.ADDRESS, Cause.REFUSAL),
        message="Unknown request URL: {method} {path}. Please check the URL for typos; the API lives below /v1.",
        when="an unknown path outside /v1",
    ),
    "method_not_allowed": ErrorRow(
        status=405, code="method_not_supported",
        causes=(Cause.ADDRESS,),
        message="Not allowed to {method} on {path}. (HINT: Perhaps you meant to use a different HTTP method?)",
        when="a known path with another method; the Allow header lists the right ones",
    ),
    "upgrade_refused": ErrorRow(
        status=426, code="upgrade_refused",
        causes=(Cause.PROTOCOL,),
        message=(
            "This API does not speak WebSocket or any other protocol on top of HTTP. Send the same request as plain "
            "HTTP, and 'stream': true for events."
        ),
        when="a request that asks to switch protocols; clients that can fall back to HTTP do so at once",
    ),
    "stream_over_http_1_0": ErrorRow(
        status=426, code="stream_over_http_1_0", param="stream",
        causes=(Cause.PROTOCOL,),
        message=(
            "Streams need HTTP/1.1 or HTTP/2: over HTTP/1.0 one that breaks off looks complete. A proxy in front of "
            "the gateway must speak HTTP/1.1 to it (nginx: proxy_http_version 1.1)."
        ),
        when="an answer that streams to a client or proxy that speaks HTTP/1.0",
    ),
    "unsupported_content_encoding": ErrorRow(
        status=415, code="unsupported_content_encoding",
        causes=(Cause.BODY,),
        message="Unsupported content encoding: '{given}'. Send the request body without compression.",
        when="a compressed request body",
    ),
    "request_too_large": ErrorRow(
        status=413, code="request_too_large",
        causes=(Cause.BODY, Cause.STORED),
        message="Request body is too large. Maximum is {limit} bytes.",
        when="a body over the limit, with or without content-length",
    ),
    "audio_too_large": ErrorRow(
        status=413, type=SERVER_ERROR,
        causes=(Cause.FORM,),
        message="413: Maximum content size limit ({limit}) exceeded ({size} bytes read)",
        when="an audio form over `limits.max_audio_bytes`, OpenAI's 25 MiB",
    ),
    "unsupported_content_type": ErrorRow(
        status=400, code="unsupported_content_type",
        causes=(Cause.JSON, Cause.FORM, Cause.STORED),
        message="Unsupported content type: '{given}'. This API method only accepts '{accepted}' requests.",
        when="a body of another media type",
    ),
    "malformed_json": ErrorRow(
        status=400,
        causes=(Cause.JSON, Cause.STORED),
        message="We could not parse the JSON body of your request. The API expects a JSON object as payload.",
        when="the body is empty, not JSON, not UTF-8 or not an object",
    ),
    "malformed_multipart": ErrorRow(
        status=400,
        causes=(Cause.FORM, Cause.STORED),
        message="We could not parse the multipart form data of your request: {reason}.",
        when="a form body without boundary, cut short or out of shape",
    ),
    "missing_model": ErrorRow(
        status=400,
        causes=(Cause.JSON, Cause.FORM),
        message="you must provide a model parameter",
        when="no model in the request",
    ),
    "empty_model": ErrorRow(
        status=400, code="invalid_value", param="model",
        causes=(Cause.JSON, Cause.FORM),
        message="Invalid value for 'model': expected a non-empty string.",
        when="model is an empty string",
    ),
    "invalid_type": ErrorRow(
        status=400, code="invalid_type",
        causes=(Cause.JSON, Cause.FORM, Cause.REFUSAL, Cause.STORED),
        message="Invalid type for '{param}': expected {expected}, but got {got} instead.",
        when="a field of the wrong JSON type",
    ),
    "invalid_value": ErrorRow(
        status=400, code="invalid_value",
        causes=(Cause.JSON, Cause.FORM, Cause.REFUSAL, Cause.STORED),
        message="{message}",
        when="a value that the engine refuses",
    ),
    "engine_control": ErrorRow(
        status=400, code="unsupported_parameter",
        causes=(Cause.JSON, Cause.FORM),
        message="Unsupported parameter: '{param}' steers the engine, which this caller is not allowed to do.",
        when="a parameter that steers the engine, from a caller without `engine_controls`",
    ),
    "media_url_refused": ErrorRow(
        status=400, code="invalid_image_url",
        causes=(Cause.JSON,),
        message="Invalid URL of an image, audio, video or file: {reason}.",
        when="a URL that engines would fetch, of a host that `limits.media_hosts` does not have",
    ),
    "gateway_busy": ErrorRow(
        status=503, type=SERVER_ERROR, code="gateway_busy", retry_after_seconds=2,
        causes=(Cause.JSON,),
        message="The gateway has too many large requests to read at the moment. Please retry shortly.",
        when="a large body that the reader of large bodies could not read in time",
    ),
})  # fmt: skip
