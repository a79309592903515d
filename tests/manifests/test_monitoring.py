"""Dashboard and alerts ask for metrics, labels and label values that we have."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from aibrix_extproc.adapters.telemetry.metrics import METRICS
from aibrix_extproc.app.metadata.metrics import METADATA_METRICS
from aibrix_extproc.core.fleet.model import Health
from aibrix_extproc.core.openai.contract.errors import ERRORS
from tests.architecture.sources import ROOT
from tests.manifests.built import MANIFESTS

ALL = {**METRICS, **METADATA_METRICS}
FOLDER = MANIFESTS / "components/monitoring"
# A name, and what is asked of its labels.
SERIES = re.compile(r"\b(aibrix_(?:extproc|metadata)_[a-z_]+)\b(?:\{([^}]*)\})?")
BY = re.compile(r"\bby \(([^)]*)\)")
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count")}


def dashboard() -> Any:
    return json.loads((FOLDER / "dashboard.json").read_bytes())


def alerts() -> list[Any]:
    return list(yaml.safe_load((FOLDER / "alerts.yaml").read_bytes())["spec"]["groups"][0]["rules"])


def expressions() -> Iterator[str]:
    for panel in dashboard()["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))
    yield from (rule["expr"] for rule in alerts())


def series_names() -> dict[str, str]:
    """What Prometheus calls them: our name."""
    return {name + suffix: name for name, (kind, _, _) in ALL.items() for suffix in SUFFIXES.get(kind, ("",))}


@pytest.mark.parametrize("expression", sorted(set(expressions())))
def test_expression_names_series_and_labels_that_exist(expression: str) -> None:
    found = SERIES.findall(expression)
    assert found
    labels = {"le"} if "_bucket" in expression else set()
    for name, selector in found:
        labels |= set(ALL[series_names()[name]][1])
        assert {one.partition("=")[0].rstrip("!").strip() for one in selector.split(",") if one} <= labels, name
    for group in BY.findall(expression):
        assert {one.strip() for one in group.split(",")} <= labels


def test_dashboard_shows_every_metric() -> None:
    shown = {name for one in expressions() for name, _ in SERIES.findall(one)}
    assert {series_names()[name] for name in shown} == set(ALL)


def test_health_that_an_alert_asks_for_is_one() -> None:
    asked = {value for one in expressions() for value in re.findall(r'health="(\w+)"', one)}
    assert asked
    assert asked <= {one.value for one in Health}


def test_problem_that_an_alert_asks_for_is_one() -> None:
    asked = {value for one in expressions() for value in re.findall(r'problem="(\w+)"', one)}
    assert asked
    assert asked <= set(ERRORS)


def test_panels_do_not_cover_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


def test_alert_is_explained_to_operators() -> None:
    page = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    assert [rule["alert"] for rule in alerts() if f"`{rule['alert']}`" not in page] == []
