"""The packages that a release has, built, installed and run away from this folder."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from aibrix_extproc import __version__
from tests.architecture.sources import ROOT
from tools.distributions import build

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return build(tmp_path_factory.mktemp("dist"))


def test_source_distribution_has_what_a_build_needs_and_nothing_else(packages: tuple[Path, Path]) -> None:
    with tarfile.open(packages[0]) as archive:
        names = {Path(*Path(name).parts[1:]).as_posix() for name in archive.getnames()}
    assert packages[0].name == f"aibrix_extproc-{__version__}.tar.gz"
    assert {"pyproject.toml", "README.md", "PKG-INFO", "protos/build.py"} <= names
    assert {Path(name).parts[0] for name in names} <= {
        "aibrix_extproc", "docs", "protos", "envoy", "README.md", "pyproject.toml", "PKG-INFO", ".gitignore",
    }  # fmt: skip


def test_wheel_has_every_file_of_the_package_and_what_is_generated(packages: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(packages[1]) as archive:
        names = set(archive.namelist())
    sources = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "aibrix_extproc").rglob("*")
        if path.suffix in (".py", ".lua", ".json", ".toml") and "__pycache__" not in path.parts
    }
    assert sources <= names
    assert "aibrix_extproc/adapters/extproc/_generated/external_processor_pb2.py" in names


def test_installed_wheel_runs_without_the_clone(packages: tuple[Path, Path], tmp_path: Path) -> None:
    """Into an environment that has the dependencies already; its own scripts and data come from the wheel."""
    site = tmp_path / "site"
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", site, packages[1])
    subprocess.run(pip, check=True)
    program = site / "bin" / "aibrix-extproc"
    environment = {"PYTHONPATH": str(site), "PATH": str(Path(sys.executable).parent)}

    def run(*words: str) -> str:
        ran = subprocess.run(
            [program, *words], capture_output=True, text=True, env=environment, cwd=tmp_path, check=True
        )
        return ran.stdout

    assert run("--version") == f"aibrix-extproc {__version__}\n"
    reads = "from aibrix_extproc.interfaces.document import read_document; print(len(read_document().operations))"
    python = (sys.executable, "-c", reads)
    assert int(subprocess.run(python, capture_output=True, env=environment, cwd=tmp_path, check=True).stdout) > 50
    assert "server.port" in run("config", "--endpoint", "http://127.0.0.1:1")
    assert "CHAT-01" in run("conformance", "--list")
    where = (sys.executable, "-c", "import aibrix_extproc; print(aibrix_extproc.__file__)")
    found = subprocess.run(where, capture_output=True, text=True, env=environment, cwd=tmp_path, check=True).stdout
    assert found.startswith(str(site))
