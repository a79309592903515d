"""The header by which a gateway describes the load of a model's engines."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.core.batches.engine_load import EngineLoadReport, read, written


@given(st.binary(min_size=1, max_size=8), st.integers(0, 999_999), st.integers(0, 999_999))
def test_report_is_read_as_it_was_written(name: bytes, others: int, engines: int) -> None:
    report = EngineLoadReport(name.hex(), others, engines)
    assert read(written(report)) == report


@pytest.mark.parametrize("value", [None, "", "a 1", "a 1 -1", "a 1 1 1", "a 1 1\n", "a 1 1234567", "a \u0661 1"])
def test_anything_else_is_no_report(value: str | None) -> None:
    assert read(value) is None
