"""`python -m tools.compare`: asks all deployments, and writes docs/compatibility.md (make compare).

The other gateways are looked for in PATH, and their versions in the environment that `--peers` names.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tools.compare.deployments import DEPLOYMENTS, version_of
from tools.compare.writing import page
from tools.measure.engines import PROFILES, simulated, vllm

PAGE: Final = Path(__file__).parents[2] / "docs" / "compatibility.md"
COMMAND: Final = "make compare"
_CASE_SECONDS: Final = 120
_RUN_SECONDS: Final = 3600.0


def asked(base_url: str, report: Path) -> dict[str, Any]:
    """The report of one deployment, with a line for each case beside it as they end.

    Timeouts are long, since nothing here is about speed.
    """
    words = [
        sys.executable, "-m", "aibrix_extproc", "conformance", "--base-url", base_url, "--fields", "--quick",
        "--timeout", str(_CASE_SECONDS), "--report", f"json={report}",
    ]  # fmt: skip
    lines = report.with_suffix(".log")
    print(f"{report.stem}: {lines} has the cases as they end", flush=True)
    with lines.open("w") as log:
        subprocess.run(words, check=False, stdout=log, timeout=_RUN_SECONDS)
    found: dict[str, Any] = json.loads(report.read_text("utf-8"))
    return found


@contextmanager
def _engine(args: argparse.Namespace, where: Path) -> Iterator[str]:
    if args.engine:
        yield args.engine
        return
    if args.vllm is None:
        with simulated(PROFILES["generate"], where, args.version) as url:
            yield url
        return
    subprocess.run([args.vllm, "-W", "ignore", "-m", "tools.measure.models", args.models], check=True)
    with vllm(args.vllm, args.models, PROFILES["generate"], where, path=args.path) as url:
        yield url


def main() -> int:
    """Ask, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vllm", type=Path, help="Python of an installed vLLM (else a simulated engine)")
    parser.add_argument("--engine", default="", help="address of one that runs already, beside --vllm or without it")
    parser.add_argument("--version", required=True, help="of that vLLM, or the one that is simulated")
    parser.add_argument("--path", default="", help="folder of modules of vLLM that come before the installed ones")
    parser.add_argument("--models", type=Path, default=Path(tempfile.gettempdir()) / "measured-models")
    parser.add_argument("--peers", type=Path, required=True, help="Python of the environment that has the others")
    parser.add_argument("--only", action="append", choices=list(DEPLOYMENTS), help="only these deployments")
    parser.add_argument("--reports", type=Path, help="a folder that keeps the reports; those in it are not asked again")
    args = parser.parse_args()
    versions = {name: version_of(name, args.version, args.peers) for name in args.only or DEPLOYMENTS}
    with tempfile.TemporaryDirectory() as temporary:
        where = Path(temporary)
        kept = args.reports or where
        with _engine(args, where) as engine:
            for name in versions:
                report = kept / f"{name}.json"
                if not report.exists():
                    folder = where / name
                    folder.mkdir()
                    with DEPLOYMENTS[name](engine, folder) as base_url:
                        counts = asked(base_url, report)["counts"]
                    print(f"{name} {versions[name]}: {counts}", flush=True)
        reports = {name: json.loads((kept / f"{name}.json").read_text("utf-8")) for name in versions}
    if args.vllm is None and "vLLM" in versions:
        versions["vLLM"] += ", simulated"
    command = f"{COMMAND} VLLM=PYTHON" if args.vllm else COMMAND
    engine_name = f"vLLM {args.version} with a tiny random model" if args.vllm else f"simulated vLLM {args.version}"
    text = page(reports, versions, engine=engine_name, command=command, wall_date=f"{datetime.now(UTC):%Y-%m-%d}")
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
