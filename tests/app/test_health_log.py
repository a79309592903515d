"""What the log says of endpoints."""

import logging

import pytest

from aibrix_extproc.app.health_log import HealthLog
from aibrix_extproc.core.fleet.model import Health
from tests.build import a_snapshot, an_endpoint


def test_each_change_of_health_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log = HealthLog()
    log.told(a_snapshot(an_endpoint(1), an_endpoint(2)))
    log.told(a_snapshot(an_endpoint(1), an_endpoint(2, health=Health.UNREACHABLE, detail="timed out")))
    log.told(a_snapshot(an_endpoint(1), an_endpoint(2, health=Health.UNREACHABLE, detail="timed out again")))
    log.told(a_snapshot(an_endpoint(1)))
    assert [(one.levelname, one.getMessage()) for one in caplog.records] == [
        ("INFO", "endpoint is ready"),
        ("INFO", "endpoint is ready"),
        ("WARNING", "endpoint is unreachable"),
        ("INFO", "endpoint has left"),
    ]
