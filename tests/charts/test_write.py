"""The charts in the repository are those that the manifests and the values give."""

import json
from typing import Any

import jsonschema
import pytest
import yaml

from aibrix_extproc import __version__
from charts import gateway
from charts.builds import COMPONENTS, MANIFESTS
from charts.template import Places, Writer
from charts.values import defaults
from charts.write import CHARTS, files, stale

pytestmark = pytest.mark.slow  # each build takes kubectl half a second


def test_charts_are_current() -> None:
    assert [path.name for path, text in files().items() if path.read_text(encoding="utf-8") != text] == [], "make chart"
    assert stale() == []


def test_chart_has_the_version_of_the_package() -> None:
    for path in CHARTS.glob("*/Chart.yaml"):
        chart = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert (chart["version"], chart["appVersion"]) == (__version__, __version__)


def test_every_component_is_a_switch_with_a_meaning() -> None:
    switches = {gateway.switch(name) for name in COMPONENTS if name not in gateway.OTHERWISE}
    assert switches == set(gateway.MEANINGS)


@pytest.mark.parametrize("overlay", ["try", "production"])
def test_values_of_an_overlay_switch_on_its_components(overlay: str) -> None:
    values = yaml.safe_load((CHARTS / gateway.CHART / f"values-{overlay}.yaml").read_text(encoding="utf-8"))
    kustomization = (MANIFESTS / "overlays" / overlay / "kustomization.yaml").read_text(encoding="utf-8")
    components = {gateway.switch(name.removeprefix("../../")) for name in yaml.safe_load(kustomization)["components"]}
    assert {name for name, value in values.items() if isinstance(value, dict) and value.get("enabled")} == components


def schema_of(chart: str) -> Any:
    return json.loads((CHARTS / chart / "values.schema.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "path", sorted(CHARTS.glob("*/values*.yaml")), ids=lambda path: f"{path.parent.name}/{path.name}"
)
def test_values_files_keep_to_the_schema(path: Any) -> None:
    schema = schema_of(path.parent.name)
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.validate(yaml.safe_load(path.read_text(encoding="utf-8")), schema)


def test_values_file_says_the_defaults() -> None:
    said = yaml.safe_load((CHARTS / gateway.CHART / "values.yaml").read_text(encoding="utf-8"))
    assert said == defaults(gateway.rows())


@pytest.mark.parametrize(
    "values",
    [
        {"replica": 3},
        {"replicas": {"min": 0}},
        {"keys": {"enable": True}},
        {"namespaces": ["Upper"]},
        {"resources": {"limit": {}}},
        {"envoy": {"service": {"type": "External"}}},
        {"metadata": {"enabled": True}, "metadataVolume": {"enabled": True}},
    ],
    ids=["unknown", "too-few", "unknown-deep", "name", "resources", "type", "both"],
)
def test_schema_refuses_values_that_mean_nothing(values: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, schema_of(gateway.CHART))


def test_members_that_two_conditions_bring_stand_under_one_key() -> None:
    writer = Writer(Places(), {"a": ".Values.a", "b": ".Values.b"})
    lines = writer.document(
        {"x": 1}, {"a": {"x": 1, "volumes": [{"name": "k"}]}, "b": {"x": 1, "volumes": [{"name": "t"}]}}
    )
    assert [line.strip() for line in lines].count("volumes:") == 1
    assert lines.count("{{- if or (.Values.a) (.Values.b) }}") == 1


def test_braces_of_the_manifests_are_data() -> None:
    assert Writer(Places(), {}).document({"x": "{{ y }}"}, {}) == ['x: "{{ `{{` }} y }}"']
