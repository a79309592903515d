"""The manifests as `kubectl apply -k` sees them: built by the real kubectl, which the test dependencies bring."""

from collections.abc import Sequence
from typing import Final

from charts.builds import COMPONENTS, KUBECTL, MANIFESTS, Thing, built, folders, key, kustomized

__all__ = ["BUILDS", "COMPONENTS", "KUBECTL", "MANIFESTS", "Thing", "built", "folders", "key", "kustomized"]

# Everything that one can apply, and each component alone on the base.
BUILDS: Final = ("base", *folders("overlays"), *folders("examples"), *COMPONENTS)


def of_kind(things: Sequence[Thing], kind: str) -> list[Thing]:
    """Those of a kind."""
    return [thing for thing in things if thing["kind"] == kind]


def only(things: Sequence[Thing], kind: str, name: str = "aibrix-extproc") -> Thing:
    """The one of that kind and name."""
    (found,) = [thing for thing in of_kind(things, kind) if thing["metadata"]["name"] == name]
    return found
