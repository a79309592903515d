"""What limited callers are told."""

import datetime
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.core.access.limits.answers import (
    anthropic_headers,
    go_duration,
    never_fits,
    openai_headers,
    refusal,
    retry_headers,
    rfc3339,
    too_large,
)
from aibrix_extproc.core.access.limits.book import LimitBook, Plan
from aibrix_extproc.core.access.limits.counters import Counters, Reading
from aibrix_extproc.core.access.limits.records import LimitRecord
from aibrix_extproc.core.openai.contract.errors import error_object, shape

SECOND = 1e6


def plan_of(**limits: float) -> Plan:
    return LimitBook([LimitRecord("a", "a", limits=dict(limits))]).plan("a", "", "m", lambda: 0.0)


def reserved(plan: Plan, *costs: float, counters: Counters | None = None) -> Reading:
    return (counters or Counters()).reserve(0.0, "", plan.claims, costs, keep=60 * SECOND, lease=60 * SECOND)


@pytest.mark.parametrize(
    ("micros", "text"),
    [
        (0, "0s"), (1, "1ms"), (12_000, "12ms"), (999_001, "1s"), (1_500_000, "1.5s"), (59_700_000, "59.7s"),
        (60_000_000, "1m0s"), (86_400_000, "1m26.4s"), (360_000_000, "6m0s"), (3_600_000_000, "1h0m0s"),
    ],
)  # fmt: skip
def test_durations_are_written_as_go_writes_them(micros: float, text: str) -> None:
    assert go_duration(micros) == text


@given(st.floats(0, 1e13))
def test_every_duration_has_the_form_that_clients_parse(micros: float) -> None:
    assert re.fullmatch(r"(\d+h)?(\d+m)?(\d+(\.\d+)?s)?|\d+ms", go_duration(micros))


@given(st.integers(0, 4_000_000_000))
def test_times_are_those_of_the_calendar(seconds: int) -> None:
    assert rfc3339(seconds) == datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_six_headers_of_the_tightest_limits() -> None:
    plan = plan_of(requests_per_minute=600, requests_per_day=1000, tokens_per_minute=6000, input_tokens_per_minute=1000)
    assert openai_headers(plan, reserved(plan, 1, 1, 300, 100)) == (
        ("x-ratelimit-limit-requests", "600"),
        ("x-ratelimit-remaining-requests", "599"),
        ("x-ratelimit-reset-requests", "100ms"),
        ("x-ratelimit-limit-tokens", "1000"),
        ("x-ratelimit-remaining-tokens", "900"),
        ("x-ratelimit-reset-tokens", "6s"),
    )


def test_anthropic_has_other_names_and_times() -> None:
    plan = plan_of(requests_per_minute=6, output_tokens_per_minute=1000)
    assert anthropic_headers(plan, reserved(plan, 1, 500)) == (
        ("anthropic-ratelimit-requests-limit", "6"),
        ("anthropic-ratelimit-requests-remaining", "5"),
        ("anthropic-ratelimit-requests-reset", "2026-01-01T00:00:10Z"),
        ("anthropic-ratelimit-output-tokens-limit", "1000"),
        ("anthropic-ratelimit-output-tokens-remaining", "500"),
        ("anthropic-ratelimit-output-tokens-reset", "2026-01-01T00:00:30Z"),
    )


@pytest.mark.parametrize(
    ("limits", "first", "second", "key", "message"),
    [
        (
            {"requests_per_minute": 3}, (3,), (1,), "request_limit_reached",
            "Rate limit reached for m on requests per min (RPM): Limit 3, Used 3, Requested 1."
            " Please try again in 20s.",
        ),
        (
            {"tokens_per_minute": 30_000}, (29_500,), (900,), "token_limit_reached",
            "Rate limit reached for m on tokens per min (TPM): Limit 30000, Used 29500, Requested 900."
            " Please try again in 800ms.",
        ),
        (
            {"audio_seconds_per_hour": 3.5}, (3000,), (1500,), "request_limit_reached",
            "Rate limit reached for m on audio seconds per hour (ASPH): Limit 3.5, Used 3, Requested 1.5."
            " Please try again in 17m8.572s.",
        ),
        (
            {"concurrent_requests": 1}, (1,), (1,), "too_many_concurrent_requests",
            "Rate limit reached for m on concurrent requests: Limit 1, Used 1, Requested 1."
            " Please try again when one has ended.",
        ),
    ],
    ids=["requests", "tokens", "audio", "concurrency"],
)  # fmt: skip
def test_a_refusal_in_openais_words(
    limits: dict[str, float], first: tuple[float, ...], second: tuple[float, ...], key: str, message: str
) -> None:
    plan, counters = plan_of(**limits), Counters()
    counters.reserve(0.0, "x", plan.claims, first, keep=SECOND, lease=SECOND)
    problem = refusal(plan, reserved(plan, *second, counters=counters), second, "m", ())
    assert problem.key == key
    assert error_object(problem)["message"] == message
    assert problem.row.status == 429


def test_a_budget_that_is_used_up_is_not_tried_again() -> None:
    plan, counters = plan_of(budget_per_month=1), Counters()
    counters.reserve(0.0, "x", plan.claims, (900_000,), keep=SECOND, lease=SECOND)
    problem = refusal(plan, reserved(plan, 200_000, counters=counters), (200_000,), "m", ())
    shaped = shape(problem)
    assert shaped.status == 429
    assert ("x-should-retry", "false") in shaped.headers
    assert error_object(problem)["code"] == "insufficient_quota"


def test_a_request_that_never_fits_is_told_so() -> None:
    plan = plan_of(tokens_per_minute=100)
    assert never_fits(plan, (100,)) is None
    index = never_fits(plan, (200,))
    assert index == 0
    problem = too_large(plan, index, (200,), "m", (("x-ratelimit-limit-tokens", "100"),))
    assert problem.row.status == 400
    assert "Limit 100, Requested 200" in str(error_object(problem)["message"])
    assert ("x-ratelimit-limit-tokens", "100") in shape(problem).headers


def test_waits_are_told_in_both_units_and_long_ones_are_not_waited_for() -> None:
    assert retry_headers(100_000) == (("retry-after", "1"), ("retry-after-ms", "100"))
    assert retry_headers(0) == (("retry-after", "1"), ("retry-after-ms", "1"))
    assert retry_headers(61_000_000)[-1] == ("x-should-retry", "false")
