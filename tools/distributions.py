"""Builds the source distribution, and the wheel from it: `python tools/distributions.py FOLDER`.

The wheel comes from the unpacked source distribution, so that one which lacks a file cannot be released. What builds
them is locked by hashes and stands in an environment of its own.
"""

import os
import subprocess
import sys
import tarfile
import venv
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements-build.lock"


def build(out: Path, root: Path = ROOT) -> tuple[Path, Path]:
    """The source distribution and the wheel."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        python = _builder(folder / "builder")
        _run(python, "-m", "hatchling", "build", "--target", "sdist", "--directory", str(folder / "sdist"), where=root)
        (source,) = (folder / "sdist").glob("*.tar.gz")
        with tarfile.open(source) as archive:
            safely: dict[str, Any] = (
                {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
            )  # not in Python 3.11.2, Debian's
            archive.extractall(folder / "unpacked", **safely)
        (unpacked,) = (folder / "unpacked").iterdir()
        _run(
            python,
            "-m",
            "hatchling",
            "build",
            "--target",
            "wheel",
            "--directory",
            str(folder / "wheel"),
            where=unpacked,
        )
        (wheel,) = (folder / "wheel").glob("*.whl")
        out.mkdir(parents=True, exist_ok=True)
        return _moved(source, out), _moved(wheel, out)


def _builder(folder: Path) -> str:
    venv.create(folder)
    python = str(folder / "bin" / "python")
    locked = ("--require-hashes", "--no-deps", "--only-binary", ":all:", "--no-compile", "--requirement", str(LOCK))
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python)
    _run(*pip, "install", "--quiet", *locked, where=folder)
    return python


def _run(*command: str, where: Path) -> None:
    ran = subprocess.run(command, cwd=where, capture_output=True, text=True)
    if ran.returncode != 0:
        sys.exit(ran.stdout + ran.stderr)


def _moved(path: Path, out: Path) -> Path:
    target = out / path.name
    target.write_bytes(path.read_bytes())
    return target


if __name__ == "__main__":
    for path in build(Path(sys.argv[1])):
        print(os.path.relpath(path))
