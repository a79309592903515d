"""Makes .venv from the lock files: `python3 tools/environment.py run` or `test`; only Python and pip are needed.

`run` installs what running needs, `test` adds the rest to the same folder. Nothing is fetched that is not locked by a
hash. What was installed is kept in a stamp, so that a second call does nothing, and one that was cut off is repaired.
The file keeps to the syntax of old Pythons, so that they can say which one is needed.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NEEDED = (3, 11)
# purpose -> lock file, and about how many megabytes a first installation downloads
PURPOSES = {"run": ("requirements-run.lock", 80), "test": ("requirements-dev.lock", 150)}
BUILD_LOCK = "requirements-build.lock"
LOCKED = ("--require-hashes", "--no-deps", "--only-binary", ":all:", "--no-compile")  # Python compiles what it imports
# Asks the build backend itself, because pip would want its requirements in the same environment as ours.
BUILD = "import sys; from hatchling.build import build_editable as build; build(sys.argv[1])"
_PIN = re.compile(r"^[\w.-]+==[^ ;]+", re.MULTILINE)
_DOWNLOADED = re.compile(r"Downloading (?:\S+/)?(\S+\.whl)(?:\.metadata)? \(([^)]+)\)")
_NO_NETWORK = re.compile(r"Retrying|[Cc]onnection|[Pp]roxy|[Tt]imed? ?out|[Rr]esol(ve|ution)|[Nn]etwork|SSL")
NO_NETWORK = """\
The download failed: no network or proxy.
  pip could not reach its package index. Check the network; behind a proxy set it:
    export https_proxy=http://HOST:PORT
  With a mirror of packages, tell pip of it: export PIP_INDEX_URL=ADDRESS
  Then run the same command again: what is already here is kept."""


class Failed(Exception):
    """The environment cannot be made; the text says why and what to do."""


def main(purpose: str) -> int:
    """The exit code; 0: .venv is ready."""
    try:
        Environment(ROOT).make(purpose)
    except Failed as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on from here.", file=sys.stderr)
        return 130
    return 0


def check_python(version: tuple[int, ...]) -> None:
    """Refuse a Python that is too old."""
    if version < NEEDED:
        have = ".".join(str(part) for part in version)
        raise Failed(f"Python 3.11 or newer is needed, this is {have}. Try: make PYTHON=python3.12")


class Environment:
    """The folder .venv of a checkout."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / ".venv"
        self.python = self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    def make(self, purpose: str) -> None:
        """Bring the folder to the state of the lock files; nothing if it is there already."""
        enough = [one for one in PURPOSES if one == purpose or purpose == "run"]
        if self.python.exists() and any(self._stamp(one) == self._wanted(one) for one in enough):
            return
        began = time.monotonic()
        lock, megabytes = PURPOSES[purpose]
        if not self.is_usable():
            self._create()
        count = len(_PIN.findall((self.root / lock).read_text(encoding="utf-8")))
        print(f"Installing {count} packages into .venv for `make {purpose}`", flush=True)
        print(f"A first time downloads about {megabytes} MB and takes about a minute", flush=True)
        self._pip("install", *LOCKED, "--requirement", str(self.root / lock))
        self._install_project()
        (self.folder / f".{purpose}").write_text(self._wanted(purpose), encoding="utf-8")
        print(f".venv is ready for `make {purpose}` after {time.monotonic() - began:.0f} s", flush=True)

    def _stamp(self, purpose: str) -> str:
        try:
            return (self.folder / f".{purpose}").read_text(encoding="utf-8")
        except OSError:
            return ""

    def _wanted(self, purpose: str) -> str:
        """What an installation depends on, as a digest."""
        files = [self.root / PURPOSES[purpose][0], self.root / BUILD_LOCK, self.root / "pyproject.toml"]
        files += sorted(path for path in (self.root / "protos").rglob("*") if path.suffix in (".py", ".proto"))
        digest = hashlib.sha256(str(self.root).encode())  # the project is installed by its place
        for path in files:
            digest.update(path.read_bytes())
        return digest.hexdigest()

    def is_usable(self) -> bool:
        """Whether a Python that is new enough stands there, with a pip that starts."""
        probe = f"import sys, pip; sys.exit(sys.version_info < {NEEDED!r})"
        try:
            return subprocess.run([str(self.python), "-c", probe], capture_output=True, timeout=60).returncode == 0
        except (OSError, subprocess.TimeoutExpired):
            return False

    def _create(self) -> None:
        check_python(sys.version_info[:3])
        again = self.folder.exists()
        print(
            f"Making .venv{' anew, it was not complete' if again else ''}, with Python {sys.version.split()[0]}",
            flush=True,
        )
        if again:
            shutil.rmtree(self.folder)
        made = subprocess.run([sys.executable, "-m", "venv", str(self.folder)], capture_output=True, text=True)
        if made.returncode != 0:
            raise Failed(
                f"Python cannot make .venv:\n{_end(made.stdout + made.stderr)}\n"
                "On Debian and Ubuntu install python3-venv, then run the same command again."
            )

    def _install_project(self) -> None:
        """Build the project with the locked tools, apart from ours, and install it so that edits count at once."""
        tools, wheels = self.folder / "build-tools", self.folder / "build-wheel"
        for folder in (tools, wheels):
            shutil.rmtree(folder, ignore_errors=True)
        print("  building the project itself", flush=True)
        wheels.mkdir()
        rest = wheels / "rest.txt"
        rest.write_text(self._build_pins_that_differ(), encoding="utf-8")
        self._pip("install", *LOCKED, "--target", str(tools), "--requirement", str(rest))
        built = subprocess.run(
            [str(self.python), "-c", BUILD, str(wheels)],
            cwd=self.root, env={**os.environ, "PYTHONPATH": str(tools)}, capture_output=True, text=True,
        )  # fmt: skip
        if built.returncode != 0:
            raise Failed(f"The project cannot be built:\n{_end(built.stdout + built.stderr)}")
        self._pip("install", "--no-deps", "--no-index", "--force-reinstall", *map(str, wheels.glob("*.whl")))
        for folder in (tools, wheels):
            shutil.rmtree(folder)

    def _build_pins_that_differ(self) -> str:
        """The build lock without what .venv has in the same version, which need not be downloaded twice."""
        have = set(_PIN.findall((self.root / PURPOSES["run"][0]).read_text(encoding="utf-8")))
        blocks = re.split(r"\n(?=\w)", (self.root / BUILD_LOCK).read_text(encoding="utf-8"))
        return "\n".join(block for block in blocks if not have.intersection(_PIN.findall(block)))

    def _pip(self, *words: str) -> None:
        """Run pip, and show one line for each package that it fetches."""
        command = [str(self.python), "-m", "pip", "--disable-pip-version-check", "--no-input", "--retries", "2", *words]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        process = subprocess.Popen(
            command, cwd=self.root, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        said: list[str] = []
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            _show(line)
        if process.wait() != 0:
            raise Failed(_explained("".join(said)))


def _show(line: str) -> None:
    """What a line of pip means for somebody who waits."""
    found = _DOWNLOADED.search(line)
    if found and ".metadata" not in line:
        name, version = found[1].split("-")[:2]
        print(f"  {name} {version}, {found[2]}", flush=True)
    elif line.startswith("Installing collected packages") and "," in line:
        print("  unpacking", flush=True)
    elif "Retrying" in line:
        print("  no answer from the package index, trying again", flush=True)


def _explained(output: str) -> str:
    errors = "\n".join(line for line in output.splitlines() if "ERROR" in line or "WARNING" in line)
    if "do not match the hashes" in output.lower() or "THESE PACKAGES DO NOT MATCH" in output:
        return f"A package is not the one that was locked, so nothing of it was installed:\n{_end(output)}"
    if _NO_NETWORK.search(errors):
        return f"{NO_NETWORK}\npip said: {_end(errors, 1)}"
    return f"The packages cannot be installed. pip said:\n{_end(output)}"


def _end(text: str, lines: int = 12) -> str:
    return "\n".join(text.strip().splitlines()[-lines:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
