"""Installs the generators of clients and of requests: `.venvs/openapi`, and for TypeScript `.venvs/openapi-node`."""

import shutil
import subprocess
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
HOME = HERE.parents[1] / ".venvs" / "openapi"
BIN = HOME / "bin"
NODE = HERE.parents[1] / ".venvs" / "openapi-node"


def install_node() -> None:
    """Install what package.json names, unless it is there or there is no Node.js."""
    npm = shutil.which("npm")
    wanted = (HERE / "package.json").read_text()
    stamp = NODE / "package.json"
    if npm is None or (stamp.exists() and stamp.read_text() == wanted and (NODE / "node_modules").exists()):
        return
    NODE.mkdir(parents=True, exist_ok=True)
    stamp.write_text(wanted)
    subprocess.run([npm, "install", "--no-audit", "--no-fund", "--loglevel", "error"], cwd=NODE, check=True)


def install_python() -> None:
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


def main() -> None:
    """Install everything."""
    install_python()
    install_node()


if __name__ == "__main__":
    main()
