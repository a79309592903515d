"""Makes the environment of the suite: the newest openai-python, and its tests out of the source distribution.

`.venvs/sdk-suite` holds the environment, and beside it the unpacked sources. A version that is there already is kept.
"""

import shutil
import subprocess
import tarfile
import venv
from pathlib import Path

HOME = Path(__file__).resolve().parents[2] / ".venvs" / "sdk-suite"
PYTHON = HOME / "environment" / "bin" / "python"
SOURCES = HOME / "sources"
_NEEDED = ("openai[aiohttp]", "pytest", "pytest-asyncio", "rich", "hatchling", "hatch-fancy-pypi-readme")


def installed_version() -> str:
    """The version of the SDK in the environment; empty without one."""
    if not PYTHON.exists():
        return ""
    command = [str(PYTHON), "-c", "import openai; print(openai.__version__)"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def main() -> None:
    """Install the newest SDK and unpack its sources."""
    if not PYTHON.exists():
        venv.create(HOME / "environment", with_pip=True)
    pip = [str(PYTHON), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--upgrade", *_NEEDED], check=True)
    version = installed_version()
    stamp = SOURCES / "version"
    if stamp.exists() and stamp.read_text() == version:
        return
    shutil.rmtree(SOURCES, ignore_errors=True)
    download = [*pip, "download", "--no-deps", "--no-binary", "openai", "--dest", str(SOURCES), f"openai=={version}"]
    subprocess.run(download, check=True)
    with tarfile.open(next(SOURCES.glob("openai-*.tar.gz"))) as archive:
        archive.extractall(SOURCES, filter="data")
    stamp.write_text(version)


if __name__ == "__main__":
    main()
