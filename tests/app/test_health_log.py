"""What the log says of endpoints."""

import logging

import pytest

from aibrix_extproc.app.health_log import MAX_LINES, HealthLog
from aibrix_extproc.core.fleet.model import Health
from tests.build import a_snapshot, an_endpoint


def test_each_change_of_health_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log = HealthLog()
    log.look_at(a_snapshot(an_endpoint(1), an_endpoint(2)))
    log.look_at(a_snapshot(an_endpoint(1), an_endpoint(2, health=Health.UNREACHABLE, detail="timed out")))
    log.look_at(a_snapshot(an_endpoint(1), an_endpoint(2, health=Health.UNREACHABLE, detail="timed out again")))
    log.look_at(a_snapshot(an_endpoint(1)))
    assert [(one.levelname, one.getMessage()) for one in caplog.records] == [
        ("INFO", "endpoint is ready"),
        ("INFO", "endpoint is ready"),
        ("WARNING", "endpoint is unreachable"),
        ("INFO", "endpoint has left"),
    ]


def test_a_thousand_changes_at_once_are_some_lines_and_a_sum(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log = HealthLog()
    log.look_at(a_snapshot(*(an_endpoint(number) for number in range(1, 1001))))
    assert len(caplog.records) == MAX_LINES + 1
    assert caplog.records[-1].getMessage() == "more endpoints have changed"
    assert (caplog.records[-1].endpoints, caplog.records[-1].now) == (1000 - MAX_LINES, {"ready": 1000})  # type: ignore[attr-defined]
    caplog.clear()
    log.look_at(a_snapshot(an_endpoint(1)))
    assert len(caplog.records) == MAX_LINES + 1
