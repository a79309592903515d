"""Envoy's own answers in OpenAI's shape: the local reply rules of the listener.

Envoy applies them before our processor sees the reply, and they are all there is when the processor is down or the
request never became one. What is JSON already (answers of our processor, the catch-all route) is left alone.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from envoy_data_plane.envoy.config.accesslog import v3 as accesslog
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.extensions.access_loggers.filters.cel import v3 as cel
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.google import protobuf

from aibrix_extproc.core.openai.contract.errors import Problem, Shaped, shape
from aibrix_extproc.core.openai.contract.headers import REQUEST_ID
from aibrix_extproc.core.openai.contract.operation_rows import ANTHROPIC_PATH
from aibrix_extproc.core.openai.wire.cors import ASKED, preflight_headers, response_headers

# Local replies carry no content-type until after these rules, unless their maker chose one.
NOT_JSON_YET: Final = "!('content-type' in response.headers && response.headers['content-type'] == 'application/json')"
# Envoy's UUID has 36 characters; towards engines the number of the attempt follows (clusters.py).
THE_REQUESTS_ID: Final = "%REQ(X-REQUEST-ID):36%"
_THE_ORIGIN: Final = "%REQ(ORIGIN)%"
_ALLOWED: Final = "access-control-allow-headers"
# Rules for what was never read as a request, so that its origin is unknown.
_WITHOUT_A_REQUEST: Final = ("headers_too_large", "bad_http")
_ID_HERE: Final = "THE-ID"
# What never became a request has no path: the expression fails, and its rule does not match.
_ANTHROPIC: Final = f"(request.url_path == '{ANTHROPIC_PATH}' || request.url_path.startsWith('{ANTHROPIC_PATH}/'))"
_OVERWRITE: Final = core.HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD
_IF_ABSENT: Final = core.HeaderValueOptionHeaderAppendAction.ADD_IF_ABSENT


@dataclass(frozen=True, slots=True)
class _Rule:
    """One local reply rule; the first that matches wins."""

    name: str
    problem: Problem
    status: int | None  # None: any
    flags: tuple[str, ...] = ()  # any of these response flags; none given: any
    at_least: int = 400


def _rules(max_body_bytes: int) -> Sequence[_Rule]:
    return (
        _Rule("request_timeout", Problem("bad_request", _says("The request took too long to arrive."),
                                         code="request_timeout", status=408), 408),
        _Rule("request_too_large", Problem("request_too_large", {"limit": str(max_body_bytes)}), 413),
        _Rule("headers_too_large", Problem("headers_too_large"), 431),
        _Rule("bad_http", Problem("bad_request", _says("The request is not valid HTTP.")), 400),
        _Rule("upgrade", Problem("upgrade_refused"), 403),
        _Rule("no_route", Problem("not_found", _says("Invalid URL")), 404),
        _Rule("upgrade_required", Problem("bad_request", _says("This HTTP version is not supported."), status=426),
              426),
        _Rule("rate_limited", Problem("rate_limited", _says("Too many requests. Please retry shortly.")), 429),
        _Rule("no_healthy_upstream", Problem("no_healthy_upstream"), 503, ("UH", "NC")),
        _Rule("unreachable", Problem("no_healthy_upstream"), 503, ("UF",)),
        _Rule("upstream_reset", Problem("upstream_reset"), 503, ("UC", "UR", "LR")),
        _Rule("overloaded", Problem("overloaded"), 503, ("UO", "OM")),
        _Rule("gateway_unavailable", Problem("gateway_unavailable"), 503),
        _Rule("bad_gateway", Problem("bad_gateway"), 502),
        _Rule("timeout", Problem("timeout"), 504),
        _Rule("server_error", Problem("upstream_error"), None, at_least=500),
        _Rule("client_error", Problem("bad_request", _says("The request could not be handled.")), None),
    )  # fmt: skip


def local_reply_config(max_body_bytes: int) -> hcm.LocalReplyConfig:
    """The rules as Envoy takes them. Only `upgrade` changes the status; the last one changes but a missing id."""
    mappers = [_mapper(rule, anthropic=flag) for flag in (True, False) for rule in _rules(max_body_bytes)]
    return hcm.LocalReplyConfig(mappers=[*mappers, _named()])


def header(
    name: str, value: str, action: core.HeaderValueOptionHeaderAppendAction = _OVERWRITE
) -> core.HeaderValueOption:
    """A header that replaces an earlier value."""
    return core.HeaderValueOption(header=core.HeaderValue(key=name, value=value), append_action=action)


def _says(message: str) -> dict[str, str]:
    return {"message": message}


def _mapper(rule: _Rule, *, anthropic: bool) -> hcm.ResponseMapper:
    shaped = shape(rule.problem, anthropic=anthropic, request_id=_ID_HERE)
    return hcm.ResponseMapper(
        filter=accesslog.AccessLogFilter(
            and_filter=accesslog.AndFilter(filters=_conditions(rule, anthropic=anthropic))
        ),
        status_code=rule.problem.http_status if rule.status not in (None, rule.problem.http_status) else None,
        body_format_override=core.SubstitutionFormatString(
            text_format_source=core.DataSource(inline_string=_literal(shaped)),
            content_type="application/json",
        ),
        headers_to_add=[
            *(header(name, value) for name, value in shaped.headers if name != "content-type"),
            *_ids(),
            *readable("*" if rule.name in _WITHOUT_A_REQUEST else _THE_ORIGIN),
        ],
    )


def readable(origin: str = _THE_ORIGIN) -> list[core.HeaderValueOption]:
    """Headers that let a page read an answer of Envoy's own. Without an origin the first one is empty and left out."""
    return [header(name, value, _IF_ABSENT) for name, value in response_headers(origin)]


def preflight() -> list[core.HeaderValueOption]:
    """Headers of the answer to a preflight that the processor does not give; without them no error can be read."""
    return [header(name, value) for name, value in preflight_headers({"origin": _THE_ORIGIN}) if name != _ALLOWED] + [
        header(_ALLOWED, f"%REQ({ASKED.upper()})%")
    ]


def _named() -> hcm.ResponseMapper:
    """For answers that are JSON already and came without an id."""
    return hcm.ResponseMapper(
        filter=accesslog.AccessLogFilter(
            status_code_filter=accesslog.StatusCodeFilter(comparison=_compared("named", 200, exact=False))
        ),
        headers_to_add=_ids(),
    )


def _ids() -> list[core.HeaderValueOption]:
    """The request's id; one of its own for what never became a request."""
    return [header(REQUEST_ID, value, _IF_ABSENT) for value in (THE_REQUESTS_ID, "%UNIQUE_ID%")]


def _literal(shaped: Shaped) -> str:
    """The body with Envoy's command character escaped; checked to be JSON before Envoy sees it."""
    text = shaped.body.decode()
    json.loads(text)
    return text.replace("%", "%%").replace(_ID_HERE, THE_REQUESTS_ID)


def _conditions(rule: _Rule, *, anthropic: bool) -> list[accesslog.AccessLogFilter]:
    conditions = [_status(rule)]
    if rule.flags:
        flags = accesslog.ResponseFlagFilter(flags=list(rule.flags))
        conditions.append(accesslog.AccessLogFilter(response_flag_filter=flags))
    expressions = [NOT_JSON_YET, _ANTHROPIC] if anthropic else [NOT_JSON_YET]
    return [*conditions, *(_expression(one) for one in expressions)]


def _expression(text: str) -> accesslog.AccessLogFilter:
    expression = protobuf.Any.pack(cel.ExpressionFilter(expression=text))
    extension = accesslog.ExtensionFilter(name="envoy.access_loggers.extension_filters.cel", typed_config=expression)
    return accesslog.AccessLogFilter(extension_filter=extension)


def _status(rule: _Rule) -> accesslog.AccessLogFilter:
    comparison = _compared(rule.name, rule.status or rule.at_least, exact=rule.status is not None)
    return accesslog.AccessLogFilter(status_code_filter=accesslog.StatusCodeFilter(comparison=comparison))


def _compared(name: str, status: int, *, exact: bool) -> accesslog.ComparisonFilter:
    return accesslog.ComparisonFilter(
        op=accesslog.ComparisonFilterOp.EQ if exact else accesslog.ComparisonFilterOp.GE,
        value=core.RuntimeUInt32(
            default_value=status,
            runtime_key=f"local_reply.{name}",  # required by Envoy; nothing sets it
        ),
    )
