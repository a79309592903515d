"""The lock files say what pyproject.toml says, pin everything, and fit both kinds of machine that an image is for."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.image import dockerfile, locks

EXTRAS = {name: locks.declared(lines) for name, lines in locks.PROJECT["project"]["optional-dependencies"].items()}
BASE = locks.declared(locks.PROJECT["project"]["dependencies"])
BUILD = locks.declared(locks.PROJECT["build-system"]["requires"])
GROUP = locks.declared(locks.PROJECT["dependency-groups"]["dev"])
OURS = GROUP.pop(locks.OURSELVES)
FOR_RUN = BASE | EXTRAS["conformance"] | EXTRAS["local"] | EXTRAS["metadata"] | EXTRAS["terminal"]
LOCKS = {
    locks.RUNTIME: BASE | EXTRAS["kubernetes"] | EXTRAS["kvevents"] | EXTRAS["metadata"],
    locks.RUN: FOR_RUN,
    locks.DEV: FOR_RUN | EXTRAS["kubernetes"] | EXTRAS["kvevents"] | GROUP,
    locks.BUILD: BUILD,
}
STALE = "run `make lock`"
by_name = pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)


def test_group_that_is_locked_for_building_is_what_the_build_system_requires() -> None:
    assert locks.declared(locks.PROJECT["dependency-groups"]["build"]) == BUILD


def test_group_for_development_has_every_extra() -> None:
    assert OURS.extras == set(EXTRAS)


@pytest.mark.parametrize("path", [locks.RUNTIME, locks.RUN], ids=lambda path: path.name)
def test_what_is_run_is_pinned_as_it_is_tested(path: Path) -> None:
    tested, run = locks.read(locks.DEV), locks.read(path)
    assert {name: pin.version for name, pin in run.items()} == {name: tested[name].version for name in run}, STALE
    assert {name: pin.hashes for name, pin in run.items()} == {name: tested[name].hashes for name in run}, STALE


@by_name
def test_lock_is_made_of_what_the_project_declares(path: Path) -> None:
    direct = {name for name, pin in locks.read(path).items() if locks.OURSELVES in pin.wanted_by}
    assert direct == set(LOCKS[path]), STALE


@by_name
def test_locked_versions_are_within_the_declared_bounds(path: Path) -> None:
    pins = locks.read(path)
    outside = [str(one) for name, one in LOCKS[path].items() if not one.specifier.contains(pins[name].version)]
    assert outside == [], STALE


@by_name
def test_lock_has_nothing_that_nobody_wants(path: Path) -> None:
    pins = locks.read(path)
    assert locks.closure(pins, set(LOCKS[path])) == set(pins)


@by_name
def test_every_package_is_pinned_to_one_version_with_hashes_and_no_address(path: Path) -> None:
    assert "://" not in path.read_text(encoding="utf-8")
    assert "--index" not in path.read_text(encoding="utf-8")
    for name, pin in locks.read(path).items():
        assert re.fullmatch(r"==[\w.]+", str(pin.requirement.specifier)), name
        assert pin.hashes, name
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in pin.hashes), name


GLIBC = ("manylinux_2_28", "manylinux_2_24", "manylinux_2_17", "manylinux2014")  # what the image has
NEWER_GLIBC = ("manylinux_2_35", "manylinux_2_34", "manylinux_2_31", *GLIBC)  # what Envoy asks for
MACHINES = {
    "x86_64": ("linux", "x86_64", tuple(f"{name}_x86_64" for name in GLIBC)),
    "aarch64": ("linux", "aarch64", tuple(f"{name}_aarch64" for name in GLIBC)),
    "linux-arm64": ("linux", "aarch64", tuple(f"{name}_aarch64" for name in NEWER_GLIBC)),
    "macos-arm64": ("darwin", "arm64", tuple(f"macosx_{version}_0_arm64" for version in (15, 14, 13, 12, 11))),
}


def image_python() -> str:
    before, _ = dockerfile.read(dockerfile.DOCKERFILE.read_text(encoding="utf-8"))
    found = re.search(r"python:(\d\.\d+)", before[0].value)
    assert found is not None
    return found[1]


@pytest.mark.install
@pytest.mark.parametrize(
    ("path", "machine", "python"),
    [
        *[
            (path, machine, image_python())
            for path in (locks.RUNTIME, locks.BUILD)
            for machine in ("x86_64", "aarch64")
        ],
        (locks.DEV, "linux-arm64", "3.12"),
        (locks.DEV, "macos-arm64", "3.13"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_lock_has_wheels_for(path: Path, machine: str, python: str, tmp_path: Path) -> None:
    """Asks the registry, as an installation would, but unpacks nothing.

    It is not asked for what this environment was made of by the same lock, from a wheel for every machine.
    """
    system, processor, tags = MACHINES[machine]
    report, lines = tmp_path / "report.json", tmp_path / "requirements.txt"
    pins = [one for one in locks.read(path).values() if not one.is_installed_for_any_machine]
    lines.write_text("\n".join(one.line for one in pins))
    done = subprocess.run(
        [
            sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--dry-run",
            "--ignore-installed", "--no-deps", "--require-hashes", "--only-binary=:all:",
            *[f"--platform={tag}" for tag in tags], f"--python-version={python}", f"--target={tmp_path}",
            f"--report={report}", f"--requirement={lines}",
        ],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    there = {"sys_platform": system, "platform_machine": processor, "python_version": python,
             "python_full_version": f"{python}.0"}  # fmt: skip
    markers = [pin.requirement.marker for pin in pins]
    assert len(markers) > 2, "which packages are for one kind of machine?"
    expected = [one for one in markers if one is None or one.evaluate(there)]
    assert len(json.loads(report.read_text())["install"]) == len(expected)
