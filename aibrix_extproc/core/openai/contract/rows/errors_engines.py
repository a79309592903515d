"""Errors that an engine gave, or the way to it."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from aibrix_extproc.core.openai.contract.error_row import SERVER_ERROR, Cause, ErrorRow

ROWS: Final[Mapping[str, ErrorRow]] = MappingProxyType({
    # in the order in which a request meets them
    "bad_request": ErrorRow(
        status=400,
        causes=(Cause.REFUSAL, Cause.GATEWAY),
        message="{message}",
        when="the engine or Envoy refused the request for another reason",
    ),
    "missing_required_parameter": ErrorRow(
        status=400, code="missing_required_parameter",
        causes=(Cause.REFUSAL, Cause.STORED),
        message="Missing required parameter: '{param}'.",
        when="a required field is absent",
    ),
    "unknown_parameter": ErrorRow(
        status=400, code="unknown_parameter",
        causes=(Cause.REFUSAL,),
        message="Unknown parameter: '{param}'.",
        when="a field that the engine's schema forbids",
    ),
    "unsupported_parameter": ErrorRow(
        status=400, code="unsupported_parameter",
        causes=(Cause.REFUSAL,),
        message="{message}",
        when="a parameter that this model or engine cannot serve",
    ),
    "unsupported_value": ErrorRow(
        status=400, code="unsupported_value",
        causes=(Cause.REFUSAL,),
        message="{message}",
        when="a value that this model or engine cannot serve",
    ),
    "invalid_image_url": ErrorRow(
        status=400, code="invalid_image_url",
        causes=(Cause.REFUSAL,),
        message="The engine could not fetch the image, audio or video that the request names.",
        when="an engine failed to download or decode media from a URL",
    ),
    "stream_options_without_stream": ErrorRow(
        status=400, param="stream_options",
        causes=(Cause.REFUSAL,),
        message="The 'stream_options' parameter is only allowed when 'stream' is enabled.",
        when="stream_options without stream: true",
    ),
    "context_length_exceeded": ErrorRow(
        status=400, code="context_length_exceeded",
        causes=(Cause.REFUSAL,),
        message="{message}",
        when="the prompt does not fit into the model's context",
    ),
    "conflict": ErrorRow(
        status=409, should_retry=False,
        causes=(Cause.REFUSAL,),
        message="{message}",
        when="the engine's state refuses the request",
    ),
    "rate_limited": ErrorRow(
        status=429, type="requests", code="rate_limit_exceeded", retry_after_seconds=1,
        causes=(Cause.REFUSAL, Cause.GATEWAY),
        message="{message}",
        when="an engine answered 429",
    ),
    "no_healthy_upstream": ErrorRow(
        status=503, type=SERVER_ERROR, code="no_healthy_upstream", retry_after_seconds=1,
        causes=(Cause.FAILURE, Cause.SERVICE),
        message="No engine could take the request at the moment. Please retry shortly.",
        when="no candidate could be reached at all",
    ),
    "upstream_reset": ErrorRow(
        status=503, type=SERVER_ERROR, code="upstream_reset", retry_after_seconds=1,
        causes=(Cause.FAILURE, Cause.SERVICE),
        message="The engine went away before it answered. Please retry your request.",
        when="every candidate reset the connection before the first byte",
    ),
    "overloaded": ErrorRow(
        status=503, type=SERVER_ERROR, code="overloaded", retry_after_seconds=2,
        causes=(Cause.FAILURE, Cause.SERVICE),
        message="That model is currently overloaded with other requests. Please retry your request shortly.",
        when="every candidate refused with 503",
    ),
    "timeout": ErrorRow(
        status=504, type=SERVER_ERROR, code="timeout",
        causes=(Cause.FAILURE, Cause.SERVICE),
        message="Request timed out.",
        when="the engine did not answer within the deadline",
    ),
    "bad_gateway": ErrorRow(
        status=502, type=SERVER_ERROR, code="bad_gateway", retry_after_seconds=1,
        causes=(Cause.FAILURE,),
        message="The engine gave an answer that is not valid HTTP. Please retry your request.",
        when="the engine broke the protocol or answered 502",
    ),
    "upstream_error": ErrorRow(
        status=500, type=SERVER_ERROR,
        causes=(Cause.FAILURE,),
        message="The server had an error while processing your request. Sorry about that!",
        when="the engine failed with 5xx",
    ),
    "headers_too_large": ErrorRow(
        status=431, code="headers_too_large",
        causes=(Cause.GATEWAY,),
        message="The headers of the request are too large.",
        when="request headers over Envoy's limit",
    ),
    "internal_error": ErrorRow(
        status=500, type=SERVER_ERROR, code="internal_error",
        causes=(Cause.GATEWAY,),
        message="The server had an error while processing your request. Sorry about that! (request id {request_id})",
        when="a bug of ours, before the response has begun",
    ),
    "decision_timeout": ErrorRow(
        status=503, type=SERVER_ERROR, code="decision_timeout", retry_after_seconds=1,
        causes=(Cause.GATEWAY,),
        message="The gateway could not decide on this request in time. Please retry shortly.",
        when="something that the gateway has to ask or to wait for takes longer than its deadline",
    ),
    "gateway_unavailable": ErrorRow(
        status=503, type=SERVER_ERROR, code="gateway_unavailable", retry_after_seconds=1,
        causes=(Cause.GATEWAY,),
        message="The gateway is temporarily unavailable. Please retry shortly.",
        when="ext_proc is down, draining or too slow; answered by Envoy alone",
    ),
})  # fmt: skip
