"""The file of limits and prices."""

import pytest

from aibrix_extproc.adapters.limitfile.source import parse_limit_file
from aibrix_extproc.config_files.errors import SourceFormatError
from aibrix_extproc.core.access.limits.records import LimitRecord, PriceRecord


def test_limits_and_prices_of_a_file() -> None:
    text = """
limits:
  - caller: "*"
    limits: {requests_per_minute: 600, budget_per_month: 12.5, tokens_per_day: null}
  - id: 8b
    model: llama-8b
    limits: {concurrent_requests: 20}
prices:
  - model: llama-*
    prices: {input_tokens: 0.5, output_tokens: 1.5e0}
"""
    assert parse_limit_file(text, "limits.yaml") == (
        LimitRecord(
            "caller=*", "*", limits={"requests_per_minute": 600, "budget_per_month": 12.5, "tokens_per_day": None}
        ),
        LimitRecord("8b", model="llama-8b", limits={"concurrent_requests": 20}),
        PriceRecord("price:llama-*", "llama-*", {"input_tokens": 0.5, "output_tokens": 1.5}),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("limit: []", "line 1, limit: unknown field"),
        ("limits: 3", "expected a list"),
        ("limits: [3]", r"limits\[0\]: expected fields"),
        ("limits:\n- {caller: a, limits: {requests_per_minute: 0}}", "line 2, .*: expected more than 0"),
        ("limits:\n- {caller: a, limits: {requests_per_minute: -1}}", "expected more than 0, got -1"),
        ("limits:\n- {caller: a, limits: {requests_per_minute: .nan}}", "finite number"),
        ("limits:\n- {caller: a, limits: {requests_per_minute: 1e300}}", "at most"),
        ("limits:\n- {caller: a, limits: {requests_per_minute: '6'}}", "expected a number"),
        ("limits:\n- {caller: a, limits: {request_per_minute: 1}}", "did you mean requests_per_minute"),
        ("limits:\n- {caller: a}", "at least one limit"),
        ("limits:\n- &a {caller: a, limits: {concurrent_requests: 1}}\n- *a", "given already on line 2"),
        ("prices:\n- {model: m, prices: {input_tokens: -1}}", "expected a price"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_line(text: str, message: str) -> None:
    with pytest.raises(SourceFormatError, match=message):
        parse_limit_file(text, "limits.yaml")
