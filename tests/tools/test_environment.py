"""How .venv is made: from the lock alone, by a real pip, in a checkout that stands in a folder of its own."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.architecture.sources import ROOT
from tests.tools.wheels import BACKEND, make_wheel
from tools.environment import NO_NETWORK, Environment, Failed, check_python

SCRIPT = ROOT / "tools" / "environment.py"


class Checkout:
    """A project with lock files, wheels for them in a folder, and the script."""

    def __init__(self, folder: Path) -> None:
        self.root, self.wheels = folder / "checkout", folder / "wheels"
        self.variables = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.wheels), "PIP_CONFIG_FILE": os.devnull}
        if self.root.exists():
            return
        for made in (self.root / "tools", self.root / "protos", self.wheels):
            made.mkdir(parents=True)
        shutil.copy(SCRIPT, self.root / "tools")
        (self.root / "pyproject.toml").write_text("")
        (self.root / "project.py").write_text("")
        first = make_wheel(self.wheels, "first", "1.0", {"first.py": "NAME = 'first'"})
        more = make_wheel(self.wheels, "more", "2.0", {"more.py": "NAME = 'more'"})
        backend = make_wheel(self.wheels, "hatchling", "1.0", {"hatchling/build.py": BACKEND})
        self.lock("run", first)
        self.lock("dev", first + more)
        self.lock("build", backend)

    def lock(self, name: str, text: str) -> None:
        (self.root / f"requirements-{name}.lock").write_text(text)

    def make(self, purpose: str, variables: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
        kept = {"PATH": os.defpath, "HOME": str(self.root)}
        return subprocess.run(
            [sys.executable, str(self.root / "tools" / "environment.py"), purpose],
            env=kept | (self.variables if variables is None else dict(variables)),
            capture_output=True, text=True, timeout=600,
        )  # fmt: skip

    def made(self, purpose: str) -> str:
        done = self.make(purpose)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def python(self, code: str) -> int:
        return subprocess.run([str(self.root / ".venv/bin/python"), "-c", code], capture_output=True).returncode

    def state(self) -> dict[Path, int]:
        return {path: path.lstat().st_mtime_ns for path in (self.root / ".venv").rglob("*")}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `run` has been installed once; the slow part is that Python makes an environment."""
    folder = tmp_path_factory.mktemp("installed")
    said = Checkout(folder).made("run")
    assert "Installing 1 packages into .venv for `make run`" in said
    assert ".venv is ready" in said
    return folder


@pytest.fixture
def checkout(installed: Path, tmp_path: Path) -> Checkout:
    """A copy of it, which has moved: that alone makes it install the project anew."""
    shutil.copytree(installed, tmp_path / "copy", symlinks=True)
    return Checkout(tmp_path / "copy")


@pytest.mark.install
def test_run_installs_its_part_test_adds_the_rest_and_a_second_call_does_nothing(checkout: Checkout) -> None:
    checkout.made("run")
    assert checkout.python("import first, project; assert 'copy' in project.__file__") == 0
    assert checkout.python("import more") == 1
    before = checkout.state()
    assert checkout.made("run") == ""
    assert checkout.state() == before
    assert "2 packages" in checkout.made("test")
    assert checkout.python("import first, more, project") == 0
    assert checkout.python("import hatchling") == 1, "what builds stays apart"
    state = checkout.state()
    assert [checkout.made("test"), checkout.made("run")] == ["", ""], "what is enough for tests is enough to run"
    assert checkout.state() == state


@pytest.mark.install
def test_change_of_a_lock_is_followed_and_another_package_of_its_name_refused(checkout: Checkout) -> None:
    line = make_wheel(checkout.wheels, "first", "1.1", {"first.py": "NAME = 'newer'"})
    make_wheel(checkout.wheels, "first", "1.1", {"first.py": "NAME = 'another'"})
    checkout.lock("run", line)
    done = checkout.make("run")
    assert done.returncode == 1
    assert "not the one that was locked" in done.stderr
    assert checkout.python("import first; assert first.NAME == 'first'") == 0
    make_wheel(checkout.wheels, "first", "1.1", {"first.py": "NAME = 'newer'"})
    checkout.lock("run", make_wheel(checkout.wheels, "first", "1.1", {"first.py": "NAME = 'newer'"}))
    checkout.made("run")
    assert checkout.python("import first; assert first.NAME == 'newer'") == 0


@pytest.mark.install
def test_half_made_environment_is_made_anew(checkout: Checkout) -> None:
    environment = checkout.root / ".venv"
    assert Environment(checkout.root).is_usable()
    (pip,) = environment.glob("lib/python*/site-packages/pip")
    shutil.rmtree(pip)
    assert not Environment(checkout.root).is_usable()
    (environment / "bin" / "python").unlink()
    (environment / "bin" / "python").symlink_to("/nowhere/python")
    assert not Environment(checkout.root).is_usable()
    assert "anew, it was not complete" in checkout.made("run")
    assert checkout.python("import first, project") == 0


@pytest.mark.install
@pytest.mark.parametrize(
    "variables",
    [
        {"PIP_INDEX_URL": "http://127.0.0.1:9/simple"},
        {"PIP_INDEX_URL": "https://packages.invalid/simple"},
        {"PIP_INDEX_URL": "https://packages.invalid/simple", "https_proxy": "http://127.0.0.1:9"},
    ],
    ids=["refused", "no-name", "proxy"],
)
def test_no_network_is_told_with_what_to_do_and_the_next_call_goes_on(
    checkout: Checkout, variables: dict[str, str]
) -> None:
    checkout.lock("run", make_wheel(checkout.wheels, "first", "1.1", {"first.py": "NAME = 'newer'"}))
    done = checkout.make("run", variables | {"PIP_CONFIG_FILE": os.devnull})
    assert done.returncode == 1
    assert done.stderr.startswith(NO_NETWORK)
    assert done.stdout.count("trying again") >= 1
    assert "Traceback" not in done.stderr
    if len(variables) > 1:
        checkout.made("run")


@pytest.mark.parametrize("version", [(3, 10, 13), (3, 8), (2, 7, 18)])
def test_old_python_is_named_with_what_to_do(version: tuple[int, ...]) -> None:
    with pytest.raises(Failed, match=r"Python 3\.11 or newer is needed, this is [\d.]+\. Try: make PYTHON=python3\.12"):
        check_python(version)


def test_python_that_is_new_enough_passes() -> None:
    check_python((3, 11, 0))
    check_python((3, 14, 0))
