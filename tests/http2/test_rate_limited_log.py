"""Lines that a peer can cause."""

import logging

import pytest

from aibrix_extproc.http2.rate_limited_log import INTERVAL_SECONDS, RateLimitedLog


def test_lines_beyond_the_bound_are_counted_and_told_with_the_first_one_of_a_later_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 100.0
    seldom = RateLimitedLog(logging.getLogger("seldom"), lambda: now, 2)
    for number in range(5):
        seldom.warn("it broke", number=number)
    now += INTERVAL_SECONDS - 0.001
    seldom.warn("it broke", number=5)
    now += 0.001
    seldom.warn("it broke", number=6)
    seldom.warn("it broke", number=7)
    said = [(vars(one)["number"], vars(one).get("left_out")) for one in caplog.records]
    assert said == [(0, None), (1, None), (6, 4), (7, None)]
