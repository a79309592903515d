"""The pages for operators say what is there: samples build, names exist, folders are described."""

import io
import re
import shutil
from pathlib import Path

import pytest
import yaml

from aibrix_extproc.adapters.telemetry.metrics import METRICS
from aibrix_extproc.app.doctor import examine_files
from aibrix_extproc.cli.main import parser_for
from aibrix_extproc.core.openai.contract.errors import ERRORS
from aibrix_extproc.doctor.finding import Severity
from aibrix_extproc.settings import read_environment
from tests.architecture.sources import ROOT
from tests.doctor.test_doctor import controller
from tests.manifests.built import BUILDS, COMPONENTS, MANIFESTS, built, folders, kustomized, only
from tests.manifests.schemas import mistakes

pytestmark = pytest.mark.slow  # each build takes kubectl half a second
OPERATIONS = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
README = (MANIFESTS / "README.md").read_text(encoding="utf-8")


def samples(page: str) -> list[str]:
    return [one for one in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "kind: Kustomization" in one]


def test_contents_name_the_sections_in_order() -> None:
    titles = re.findall(r"^## (.+)$", OPERATIONS, re.MULTILINE)
    assert titles
    assert re.findall(r"^- \[(.+)\]\(#", OPERATIONS, re.MULTILINE) == titles


@pytest.mark.parametrize(
    ("page", "beside"), [(OPERATIONS, "manifests"), (README, "../manifests")], ids=["operations", "readme"]
)
def test_overlay_of_the_page_builds(page: str, beside: str, tmp_path: Path) -> None:
    (sample,) = samples(page)
    folder = tmp_path / "overlay"
    folder.mkdir()
    (folder / "kustomization.yaml").write_text(sample, encoding="utf-8")
    shutil.copytree(MANIFESTS, (folder / beside).resolve())
    things = kustomized(folder)
    assert [line for thing in things for line in mistakes(thing)] == []
    (container,) = only(things, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "registry.example.com/aibrix-extproc:0.1.0"


def test_other_namespace_of_the_page_stands_wherever_ours_stood(tmp_path: Path) -> None:
    (sample,) = [one for one in re.findall(r"```yaml\n(.*?)```", OPERATIONS, re.DOTALL) if one.startswith("namespace:")]
    shutil.copytree(MANIFESTS, tmp_path / "manifests")
    (tmp_path / "kustomization.yaml").write_text(sample + "resources: [manifests/overlays/try]\n", encoding="utf-8")
    told = yaml.safe_dump_all(kustomized(tmp_path))
    assert "llm-gateway" in told
    assert "aibrix-extproc-system" not in told


def test_patch_for_old_envoy_gateways_is_one_that_doctor_knows(tmp_path: Path) -> None:
    (sample,) = [one for one in re.findall(r"```yaml\n(.*?)```", OPERATIONS, re.DOTALL) if "JSONPatch" in one]
    shutil.copytree(MANIFESTS, tmp_path / "manifests")
    (tmp_path / "kustomization.yaml").write_text(f"resources: [manifests/base]\npatches:\n{sample}", encoding="utf-8")
    things = kustomized(tmp_path)
    assert [line for thing in things for line in mistakes(thing)] == []
    for objects, expected in ((built("base"), ["version"]), (things, [])):
        found = examine_files([io.StringIO(yaml.safe_dump_all([*objects, controller("v1.8.3")]))])
        assert [one.check for one in found if one.severity is not Severity.NOTE] == expected


@pytest.mark.parametrize("build", BUILDS)
def test_namespace_is_our_own_and_not_aibrixs(build: str) -> None:
    """`kubectl delete -k` takes it along."""
    used = {thing["metadata"].get("namespace") for thing in built(build)} - {None}
    assert used == {parser_for("doctor").parse_args(["doctor"]).gateway_namespace} == {"aibrix-extproc-system"}


def test_existing_namespace_is_left_alone() -> None:
    there, left = built("base"), built("components/existing-namespace")
    assert [thing for thing in there if thing["kind"] != "Namespace"] == list(left)


def test_variables_metrics_and_errors_of_the_page_exist() -> None:
    variables = set(re.findall(r"\bAIBRIX_EXTPROC_[A-Z_]+", OPERATIONS))
    assert variables
    read_environment(dict.fromkeys(variables, "x"))
    assert set(re.findall(r"`(aibrix_extproc_[a-z_]+)`", OPERATIONS)) <= set(METRICS)
    codes = set(re.findall(r"\b(?:404|413|503|504) `([a-z_]+)`", OPERATIONS))
    assert codes
    assert codes <= {row.code for row in ERRORS.values()}


def test_readme_describes_every_folder() -> None:
    told = set(re.findall(r"^\| `([a-z0-9/-]+)/` \|", README, re.MULTILINE))
    assert told == {"base", *folders("overlays"), *folders("examples"), *COMPONENTS}


@pytest.mark.parametrize("build", BUILDS)
def test_doctor_only_notes_of_what_we_ship_what_files_cannot_show(build: str) -> None:
    found = examine_files([io.StringIO(yaml.safe_dump_all(built(build)))])
    assert {one.severity for one in found} == {Severity.NOTE}
    without_gateway = build.startswith("examples/") or build == "overlays/picker"
    scripted = build in ("overlays/production", "components/metering")  # wants a switch of Envoy Gateway's
    checks = [one.check for one in found if not one.field.endswith(".image")]
    keyless = not without_gateway and build not in ("components/keys", "overlays/production")
    assert checks == ["gateway"] * without_gateway + ["lua_switch"] * scripted + ["keyless"] * keyless
    assert len([one for one in found if one.field.endswith(".image")]) == (not build.startswith("examples/"))


def test_gateway_is_reached_from_outside_of_the_cluster_only_with_keys() -> None:
    for build in BUILDS:
        of_kind = {one["kind"]: one for one in built(build)}
        if {"EnvoyProxy", "Deployment"} <= of_kind.keys():
            has_keys = "AIBRIX_EXTPROC_ACCESS__KEY_FILE" in yaml.safe_dump(list(built(build)))
            kind = of_kind["EnvoyProxy"]["spec"]["provider"]["kubernetes"]["envoyService"]["type"]
            assert kind == ("LoadBalancer" if has_keys else "ClusterIP"), build
