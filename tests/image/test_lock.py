"""The lock files say what pyproject.toml says, pin everything, and fit both kinds of machine that an image is for."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.image import dockerfile, locks

BASE = locks.declared(locks.PROJECT["project"]["dependencies"])
KUBERNETES = locks.declared(locks.PROJECT["project"]["optional-dependencies"]["kubernetes"])
BUILD = locks.declared(locks.PROJECT["build-system"]["requires"])
LOCKS = {locks.RUNTIME: BASE | KUBERNETES, locks.BUILD: BUILD}
STALE = "run `make lock`"
by_name = pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)


def test_group_that_is_locked_for_building_is_what_the_build_system_requires() -> None:
    assert locks.declared(locks.PROJECT["dependency-groups"]["build"]) == BUILD


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


@pytest.mark.slow
@by_name
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_lock_has_wheels_for_the_python_of_the_image_on(machine: str, path: Path, tmp_path: Path) -> None:
    """Asks the registry, as a build of the image would, but unpacks nothing."""
    before, _ = dockerfile.read(dockerfile.DOCKERFILE.read_text(encoding="utf-8"))
    python = re.search(r"python:(\d\.\d+)", before[0].value)
    assert python is not None
    report = tmp_path / "report.json"
    glibc = [f"--platform={name}_{machine}" for name in ("manylinux_2_28", "manylinux_2_17", "manylinux2014")]
    done = subprocess.run(
        [
            sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--dry-run",
            "--ignore-installed", "--no-deps", "--require-hashes", "--only-binary=:all:", *glibc,
            f"--python-version={python[1]}", f"--target={tmp_path}", f"--report={report}", f"--requirement={path}",
        ],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    linux = {"sys_platform": "linux", "platform_machine": machine, "python_version": python[1]}
    markers = [pin.requirement.marker for pin in locks.read(path).values()]
    expected = [one for one in markers if one is None or one.evaluate(linux)]
    assert len(json.loads(report.read_text())["install"]) == len(expected)
