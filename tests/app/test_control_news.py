"""Engines that the control state names as changed are asked without waiting for their turn."""

import msgspec

from aibrix_extproc.app.control_parts import follow_news
from aibrix_extproc.core.control.rows import Page, Row, Section
from aibrix_extproc.core.control.state import ControlState
from aibrix_extproc.core.fleet.news import EnginesChanged


def a_page(version: int, data: object) -> Page:
    raw = None if data is None else msgspec.Raw(msgspec.json.encode(data))
    return Page("history", version, (Row(Section.NEWS.value, "one", version, raw),), restart=version == 1)


def test_each_engine_of_a_record_is_renewed_once_and_a_removal_renews_none() -> None:
    renewed: list[str] = []
    state = ControlState()
    follow_news(state, renewed.append)
    state.apply(a_page(1, EnginesChanged(("a", "b"), 100.0)))
    state.apply(a_page(2, None))
    assert renewed == ["a", "b"]
