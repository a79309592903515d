"""What the operator hears of configurations that cannot be obeyed."""

import logging

import pytest

from aibrix_extproc.app.parts.configs import ConfigLog
from aibrix_extproc.core.fleet.model import Snapshot
from aibrix_extproc.core.fleet.modelconfig import parse_config
from tests.build import a_snapshot, an_endpoint


def fleet_with(text: str) -> Snapshot:
    return a_snapshot(an_endpoint(config=parse_config(text)))


def test_strategy_that_is_not_here_is_said_once_and_forgotten_when_it_is_gone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = ConfigLog("least-request")
    for _ in range(2):
        log.log_changes(fleet_with('{"lockedRoutingStrategy": "slo"}'))
    assert log.warnings == {"chat-m": "no such strategy here: slo; least-request is used for it"}
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    log.log_changes(fleet_with('{"lockedRoutingStrategy": "random"}'))
    assert log.warnings == {}
    assert len(caplog.records) == 1
