"""Every object is one that its API server would take, field for field, with the oldest Envoy Gateway and the newest."""

import copy
from typing import Any

import pytest
import yaml

from tests.manifests.built import BUILDS, MANIFESTS, built, key, only
from tests.manifests.schemas import ALWAYS, NEWEST, OLDEST, mistakes

pytestmark = pytest.mark.slow  # each build takes kubectl half a second


@pytest.mark.parametrize("sets", [NEWEST, OLDEST], ids=["newest", "oldest"])
@pytest.mark.parametrize("build", BUILDS)
def test_objects_built_have_only_fields_that_their_kinds_have(build: str, sets: tuple[str, ...]) -> None:
    things = built(build)
    assert things
    assert [line for thing in things for line in mistakes(thing, (*sets, *ALWAYS))] == []


def changed(kind: str, *path: str | int, value: Any) -> dict[str, Any]:
    """An object of the base with one place changed."""
    thing: Any = copy.deepcopy(only(built("base"), kind))
    place = thing
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    result: dict[str, Any] = thing
    return result


CONTAINER = ("spec", "template", "spec", "containers", 0)
MISTAKES = {
    "unknown": ("BackendTrafficPolicy", ("spec", "retry", "numRetry"), 3),
    "type": ("BackendTrafficPolicy", ("spec", "retry", "numRetries"), "3"),
    "enum": ("EnvoyExtensionPolicy", ("spec", "extProc", 0, "processingMode", "request", "body"), "Whole"),
    "pattern": ("EnvoyProxy", ("spec", "shutdown", "drainTimeout"), "1 hour"),
    "too-few": ("Gateway", ("spec", "listeners"), []),
    "unknown-deep": ("Deployment", (*CONTAINER, "imagePull"), "Always"),
    "type-deep": ("Deployment", (*CONTAINER, "ports", 0, "containerPort"), "x"),
    "kind": ("Deployment", ("kind",), "Deploiment"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_object_with_a_mistake_is_found_out(name: str) -> None:
    kind, path, value = MISTAKES[name]
    assert len(mistakes(changed(kind, *path, value=value))) == 1


def test_file_in_a_folder_is_part_of_what_it_builds() -> None:
    """A file that its kustomization forgets would be checked by nobody."""
    for path in MANIFESTS.rglob("*.yaml"):
        if path.name != "kustomization.yaml":
            folder = path.parent.relative_to(MANIFESTS).as_posix()
            there = {key(thing) for thing in built(folder)}
            assert {key(thing) for thing in yaml.safe_load_all(path.read_text(encoding="utf-8"))} <= there, path
