"""Installs the generator of clients and the generator of requests into `.venvs/openapi`."""

import subprocess
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
HOME = HERE.parents[1] / ".venvs" / "openapi"
BIN = HOME / "bin"


def main() -> None:
    """Install what tools.txt names, unless it is there."""
    wanted = (HERE / "tools.txt").read_text()
    stamp = HOME / "installed.txt"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    if not (BIN / "python").exists():
        venv.create(HOME, with_pip=True)
    pip = [str(BIN / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade"]
    subprocess.run([*pip, "-r", str(HERE / "tools.txt")], check=True)
    stamp.write_text(wanted)


if __name__ == "__main__":
    main()
