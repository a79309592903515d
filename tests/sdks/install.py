"""Makes an environment for each SDK under test: `.venvs/NAME` for each requirements file here, and Node's beside them.

An environment whose requirements have not changed is kept, but for the newest SDK, which is looked up each time.
"""

import shutil
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
VENVS = HERE.parents[1] / ".venvs"
NODE = VENVS / "node"
PYTHON_SDKS = tuple(sorted(path.stem for path in HERE.glob("python-*.txt")))


def python_of(name: str) -> Path:
    """The interpreter of an environment."""
    return VENVS / name / "bin" / "python"


def install_python(name: str) -> None:
    """Make or keep one virtual environment."""
    wanted = (HERE / f"{name}.txt").read_text()
    stamp = VENVS / name / "installed.txt"
    floating = "==" not in wanted
    if stamp.exists() and stamp.read_text() == wanted and not floating:
        return
    if not python_of(name).exists():
        venv.create(VENVS / name, with_pip=True)
    pip = [str(python_of(name)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade"]
    subprocess.run([*pip, "-r", str(HERE / f"{name}.txt")], check=True)
    stamp.write_text(wanted)


def install_node() -> None:
    """Install openai-node, if there is a Node.js to run it."""
    npm = shutil.which("npm")
    if npm is None:
        sys.stderr.write("Node.js is not installed: the cases of openai-node are left out.\n")
        return
    wanted = (HERE / "package.json").read_text()
    stamp = NODE / "package.json"
    if stamp.exists() and stamp.read_text() == wanted and (NODE / "node_modules" / "openai").exists():
        return
    NODE.mkdir(parents=True, exist_ok=True)
    stamp.write_text(wanted)
    subprocess.run([npm, "install", "--no-audit", "--no-fund", "--loglevel", "error"], cwd=NODE, check=True)


def main() -> None:
    """Install everything."""
    for name in PYTHON_SDKS:
        install_python(name)
    install_node()


if __name__ == "__main__":
    main()
