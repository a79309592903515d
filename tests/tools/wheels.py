"""Wheels and lock files made on the spot, so that a real pip installs without a network."""

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path

# A build backend as small as can be: an editable wheel is a path.
BACKEND = """
import pathlib, zipfile
def build_editable(folder):
    with zipfile.ZipFile(pathlib.Path(folder) / "project-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("project.pth", str(pathlib.Path.cwd()))
        wheel.writestr("project-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: project\\nVersion: 1\\n")
        wheel.writestr("project-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("project-1.dist-info/RECORD", "")
"""


def make_wheel(folder: Path, name: str, version: str, files: Mapping[str, str]) -> str:
    """Write a wheel; its line for a lock file."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    about = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        for inner, text in files.items():
            wheel.writestr(inner, text)
        wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")
    return f"{name}=={version} \\\n    --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"
