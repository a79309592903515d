"""What the log says of endpoints."""

import logging
from itertools import pairwise

import pytest

from aibrix_extproc.app.health_log import MAX_LINES, HealthLog
from aibrix_extproc.core.fleet.model import EMPTY, Health, Snapshot
from tests.build import a_snapshot, an_endpoint, changes


def follow(*snapshots: Snapshot) -> None:
    """Let a log see one snapshot after the other."""
    log = HealthLog()
    for before, after in pairwise((EMPTY, *snapshots)):
        log.log_changes(changes(before, after), after)


def test_each_change_of_health_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    follow(
        a_snapshot(an_endpoint(1), an_endpoint(2)),
        a_snapshot(an_endpoint(1), an_endpoint(2, health=Health.UNREACHABLE, detail="timed out")),
        a_snapshot(an_endpoint(1), an_endpoint(2, health=Health.UNREACHABLE, detail="timed out again")),
        a_snapshot(an_endpoint(1)),
    )
    assert [(one.levelname, one.getMessage()) for one in caplog.records] == [
        ("INFO", "endpoint is ready"),
        ("INFO", "endpoint is ready"),
        ("WARNING", "endpoint is unreachable"),
        ("INFO", "endpoint has left"),
    ]


def test_a_thousand_changes_at_once_are_some_lines_and_a_sum(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    thousand = a_snapshot(*(an_endpoint(number) for number in range(1, 1001)))
    follow(thousand)
    assert len(caplog.records) == MAX_LINES + 1
    assert caplog.records[-1].getMessage() == "more endpoints have changed"
    assert (caplog.records[-1].endpoints, caplog.records[-1].now) == (1000 - MAX_LINES, {"ready": 1000})  # type: ignore[attr-defined]
    caplog.clear()
    HealthLog().log_changes(changes(thousand, a_snapshot(an_endpoint(1))), a_snapshot(an_endpoint(1)))
    assert len(caplog.records) == MAX_LINES + 1
