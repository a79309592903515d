"""The real Helm, and the charts as it renders them."""

import os
import shutil
import subprocess
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import pytest
import yaml

from charts.builds import MANIFESTS, Thing, kustomized
from charts.write import CHARTS

NAMESPACE: Final = "aibrix-extproc-system"
MISSING: Final = "Helm is missing: `make helm` builds it, then `make test-chart`"


def helm_program() -> str:
    """Where it is; a test without it fails and says how it is had."""
    places = [os.environ.get("KUBEBUILDER_ASSETS", ""), sysconfig.get_path("scripts")]  # noqa: TID251
    found = shutil.which("helm", path=os.pathsep.join([*filter(None, places), os.environ["PATH"]]))  # noqa: TID251
    if found is None:
        pytest.fail(MISSING)
    return found


def helm(*arguments: str | Path, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """One run; nothing of the user's own Helm is read."""
    with TemporaryDirectory() as home:
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder or home)}  # noqa: TID251
        return subprocess.run(
            [helm_program(), *arguments], capture_output=True, text=True, env=environment, timeout=120, check=False
        )


def rendered(*arguments: str, namespace: str = NAMESPACE, chart: str = "aibrix-extproc") -> list[Thing]:
    """What `helm template` prints."""
    ran = helm("template", chart, CHARTS / chart, "--namespace", namespace, *arguments)
    assert ran.returncode == 0, ran.stderr
    return [thing for thing in yaml.safe_load_all(ran.stdout) if thing]


def kustomized_with(**kustomization: Any) -> Sequence[Thing]:
    """What kustomize makes of a folder beside a copy of the manifests."""
    with TemporaryDirectory() as folder:
        copied = Path(shutil.copytree(MANIFESTS, Path(folder, "manifests")))
        (copied.parent / "kustomization.yaml").write_text(yaml.safe_dump(kustomization), encoding="utf-8")
        return kustomized(copied.parent)


def by_key(things: Sequence[Thing]) -> dict[tuple[str, str, str], Any]:
    """Objects by kind, namespace and name, in a form in which the order of named things does not count."""
    found = {}
    for thing in things:
        metadata = thing["metadata"]
        one = thing["kind"], metadata.get("namespace", ""), metadata["name"]
        assert one not in found
        found[one] = _sorted(thing)
    return found


def _sorted(node: Any) -> Any:
    if isinstance(node, dict):
        return {name: _sorted(value) for name, value in node.items()}
    if isinstance(node, list):
        items = [_sorted(item) for item in node]
        named = items and all(isinstance(item, dict) and isinstance(item.get("name"), str) for item in items)
        return sorted(items, key=lambda item: str(item["name"])) if named else items
    return node
