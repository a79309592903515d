"""The manifests as `kubectl apply -k` sees them: built by the real kubectl, which the test dependencies bring."""

import shutil
import subprocess
import sysconfig
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import yaml

from tests.architecture.sources import ROOT

MANIFESTS: Final = ROOT / "manifests"
KUBECTL: Final = Path(sysconfig.get_path("scripts")) / "kubectl"
Thing = Mapping[str, Any]


def folders(below: str) -> tuple[str, ...]:
    """`components/keys` and so on: what has a kustomization."""
    return tuple(
        sorted(
            path.parent.relative_to(MANIFESTS).as_posix() for path in (MANIFESTS / below).glob("*/kustomization.yaml")
        )
    )


COMPONENTS: Final = folders("components")
# Everything that one can apply, and each component alone on the base.
BUILDS: Final = ("base", *folders("overlays"), *folders("examples"), *COMPONENTS)


@cache
def built(name: str) -> Sequence[Thing]:
    """The objects of a folder; those of a component with the base under it."""
    if name not in COMPONENTS:
        return kustomized(MANIFESTS / name)
    with TemporaryDirectory() as folder:  # beside a copy of ours, for kustomize takes nothing from above a root
        copied = Path(shutil.copytree(MANIFESTS, Path(folder, "manifests")))
        kustomization = {"resources": ["manifests/base"], "components": [f"manifests/{name}"]}
        (copied.parent / "kustomization.yaml").write_text(yaml.safe_dump(kustomization), encoding="utf-8")
        return kustomized(copied.parent)


def kustomized(folder: Path) -> Sequence[Thing]:
    """The objects that a folder builds."""
    ran = subprocess.run([KUBECTL, "kustomize", folder], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "deprecated" not in ran.stderr.lower(), ran.stderr
    return tuple(thing for thing in yaml.safe_load_all(ran.stdout) if thing)


def key(thing: Thing) -> tuple[str, str, str]:
    """Kind, namespace ("" without one) and name."""
    metadata = thing["metadata"]
    return thing["kind"], metadata.get("namespace", ""), metadata["name"]


def of_kind(things: Sequence[Thing], kind: str) -> list[Thing]:
    """Those of a kind."""
    return [thing for thing in things if thing["kind"] == kind]


def only(things: Sequence[Thing], kind: str, name: str = "aibrix-extproc") -> Thing:
    """The one of that kind and name."""
    (found,) = [thing for thing in of_kind(things, kind) if thing["metadata"]["name"] == name]
    return found
