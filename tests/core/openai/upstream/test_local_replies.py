"""Replies that Envoy makes itself, by their details, flags and status."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.core.openai.contract.errors import error_object, shape
from aibrix_extproc.core.openai.upstream.local_replies import problem_from_local_reply

RESET = "upstream_reset_before_response_started"

REPLIES = [
    # status, details, flags -> ERRORS row, status for the client
    (503, "no_healthy_upstream", 0x2, "no_healthy_upstream", 503),
    (503, "cluster_not_found", 0x1000000, "no_healthy_upstream", 503),
    (503, f"{RESET}{{remote_connection_failure|delayed_connect_error:_Connection_refused}}", 0x20,
     "no_healthy_upstream", 503),
    (503, f"{RESET}{{connection_timeout}}", 0x20, "no_healthy_upstream", 503),
    (503, f"{RESET}{{connection_termination}}", 0x40, "upstream_reset", 503),
    (503, f"{RESET}{{remote_reset}}", 0x10, "upstream_reset", 503),
    (503, f"{RESET}{{overflow}}", 0x80, "overloaded", 503),
    (502, f"{RESET}{{protocol_error}}", 0x800000, "bad_gateway", 502),
    (504, "response_timeout", 0x4, "timeout", 504),
    (504, "upstream_per_try_timeout", 0x4, "timeout", 504),
    (504, "upstream_per_try_idle_timeout", 0x10000, "timeout", 504),
    (504, "upstream_response_timeout", 0x4, "timeout", 504),
    (504, "upstream_max_stream_duration_reached", 0x80000, "timeout", 504),
    (408, "stream_idle_timeout", 0x10000, "timeout", 504),
    (504, "stream_idle_timeout", 0x10000, "timeout", 504),
    (408, "request_overall_timeout", 0, "timeout", 504),
    (413, "request_payload_too_large", 0, "request_too_large", 413),
    (500, "response_payload_too_large", 0, "upstream_error", 500),
    (500, "mismatch_between_content_length_and_the_length_of_the_mutated_body", 0, "upstream_error", 500),
    (431, "request_headers_too_large", 0, "headers_too_large", 431),
    (431, "http1.too_many_headers", 0, "headers_too_large", 431),
    (503, "direct_response", 0, "gateway_unavailable", 503),
    (500, "direct_response", 0, "gateway_unavailable", 503),
    (404, "direct_response", 0, "not_found", 404),
    (404, "route_not_found", 0x100, "not_found", 404),
    (429, "local_rate_limited", 0, "rate_limited", 429),
    (429, "request_rate_limited", 0x800, "rate_limited", 429),
    (401, "missing_api_key", 0, "missing_api_key", 401),
    (401, "unkonwn_api_key", 0, "invalid_api_key", 401),
    (401, "unknown_api_key", 0, "invalid_api_key", 401),
    (401, "jwt_authn_access_denied{Jwt_is_missing}", 0, "missing_api_key", 401),
    (401, "jwt_authn_access_denied{Jwt_is_expired}", 0, "invalid_api_key", 401),
    (403, "jwt_authn_access_denied{Audiences_in_Jwt_are_not_allowed}", 0, "permission_denied", 403),
    (403, "rbac_access_denied_matched_policy[none]", 0, "permission_denied", 403),
    (403, "ext_authz_denied", 0x1000, "permission_denied", 403),
    (401, "ext_authz_denied", 0x1000, "missing_api_key", 401),
    (403, "ext_authz_error", 0x1000, "permission_denied", 403),
    (503, "ext_authz_error", 0x1000, "gateway_unavailable", 503),
    (500, "ext_proc_error_gRPC_error_14{connection_refused}", 0, "gateway_unavailable", 503),
    (504, "ext_proc_error_per-message_timeout_exceeded", 0, "gateway_unavailable", 503),
    (503, "overload", 0x2000000, "overloaded", 503),
    (503, "drop_overload", 0x8000000, "overloaded", 503),
    (400, "http1.codec_error", 0x40000, "bad_request", 400),
    (400, "missing_host_header", 0, "bad_request", 400),
    (426, "low_version", 0, "bad_request", 400),
    # nothing known in the details: flags, then status
    (503, "something_new", 0x2, "no_healthy_upstream", 503),
    (503, "something_new", 0x80, "overloaded", 503),
    (504, "something_new", 0x4, "timeout", 504),
    (502, "something_new", 0x800000, "bad_gateway", 502),
    (503, "something_new", 0, "gateway_unavailable", 503),
    (502, "something_new", 0, "bad_gateway", 502),
    (500, "something_new", 0, "upstream_error", 500),
    (400, "something_new", 0x2, "bad_request", 400),
    (401, "something_new", 0, "missing_api_key", 401),
    (403, "something_new", 0, "permission_denied", 403),
    (429, "something_new", 0, "rate_limited", 429),
    (413, "something_new", 0, "request_too_large", 413),
    (200, "something_new", 0, "upstream_error", 500),
]  # fmt: skip


@pytest.mark.parametrize(("status", "details", "flags", "key", "shown"), REPLIES)
def test_local_reply_of_a_kind_becomes_its_row(status: int, details: str, flags: int, key: str, shown: int) -> None:
    problem = problem_from_local_reply(status, details, flags, max_body_bytes=1000)
    assert (problem.key, problem.http_status) == (key, shown)


def test_too_large_request_is_told_the_limit() -> None:
    problem = problem_from_local_reply(413, "request_payload_too_large", 0, max_body_bytes=52_428_800)
    assert error_object(problem)["message"] == "Request body is too large. Maximum is 52428800 bytes."


def test_rate_limited_request_keeps_the_words_that_clients_search_for() -> None:
    message = error_object(problem_from_local_reply(429, "local_rate_limited", 0, max_body_bytes=1))["message"] or ""
    assert "Rate limit reached" in message
    assert "Please try again in" in message


@given(st.integers(100, 599), st.text(max_size=40), st.integers(0, 2**32))
def test_local_reply_of_any_kind_is_shaped_without_envoys_words(status: int, details: str, flags: int) -> None:
    problem = problem_from_local_reply(status, details + "{secret}", flags, max_body_bytes=1)
    assert 400 <= shape(problem).status <= 599
    assert problem.http_status != 408
    assert b"secret" not in shape(problem).body
    assert "{" not in (error_object(problem)["message"] or "")
