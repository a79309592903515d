"""The manifests as kustomize builds them, by the kubectl that the development dependencies bring."""

import shutil
import subprocess
import sysconfig
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).resolve().parent.parent
MANIFESTS: Final = ROOT / "manifests"
KUBECTL: Final = Path(sysconfig.get_path("scripts")) / "kubectl"
Thing = Mapping[str, Any]


class BuildError(Exception):
    """Kustomize refuses a folder."""


def folders(below: str) -> tuple[str, ...]:
    """`components/keys` and so on: what has a kustomization."""
    return tuple(
        sorted(
            path.parent.relative_to(MANIFESTS).as_posix() for path in (MANIFESTS / below).glob("*/kustomization.yaml")
        )
    )


COMPONENTS: Final = folders("components")


@cache
def built(name: str) -> Sequence[Thing]:
    """The objects of a folder; those of a component with the base under it."""
    if not name.startswith("components/"):
        return kustomized(MANIFESTS / name)
    with TemporaryDirectory() as folder:  # beside a copy of ours, for kustomize takes nothing from above a root
        copied = Path(shutil.copytree(MANIFESTS, Path(folder, "manifests")))
        kustomization = {"resources": ["manifests/base"], "components": [f"manifests/{name}"]}
        (copied.parent / "kustomization.yaml").write_text(yaml.safe_dump(kustomization), encoding="utf-8")
        return kustomized(copied.parent)


def rendered(folder: Path) -> str:
    """What `kubectl kustomize` prints for a folder. Raises BuildError with its words."""
    ran = subprocess.run([KUBECTL, "kustomize", folder], capture_output=True, text=True, check=False)
    if ran.returncode or "deprecated" in ran.stderr.lower():
        raise BuildError(ran.stderr)
    return ran.stdout


def kustomized(folder: Path) -> Sequence[Thing]:
    """The objects that a folder builds."""
    return tuple(thing for thing in yaml.safe_load_all(rendered(folder)) if thing)


def key(thing: Thing) -> tuple[str, str, str]:
    """Kind, namespace ("" without one) and name."""
    metadata = thing["metadata"]
    return thing["kind"], metadata.get("namespace", ""), metadata["name"]
