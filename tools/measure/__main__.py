"""`python -m tools.measure`: measures engines and writes what was found (make measure).

A real vLLM is named by its Python, `--vllm .../bin/python`. Without it the simulator is measured.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import run
from typing import Any, Final

from tools.measure.asking import Asker
from tools.measure.engines import PROFILES, gateway, simulated, vllm
from tools.measure.measuring import Measurement, collectors
from tools.measure.plan import operations, probes
from tools.measure.recorded import Recorded, as_text
from tools.measure.stored import NAME as STORED
from tools.measure.stored import StoredMeasurement
from tools.measure.stored import table as stored_table
from tools.samples.running import stack

Json = dict[str, Any]

_REPORTED_FIELDS: Final = 25
FOLDER: Final = Path(__file__).parents[2] / "aibrix_extproc" / "interfaces" / "verdicts"


def measure(args: argparse.Namespace, profile_name: str, file: Recorded) -> None:
    """Start an engine and the gateway, and record what is found of each operation."""
    profile = PROFILES[profile_name]
    with tempfile.TemporaryDirectory() as folder, _engine(args, profile_name, Path(folder)) as engine:
        where = Path(folder)
        user, steering = _key(where, "user"), _key(where, "steers", "--engine-controls")
        with gateway(engine, where / "keys.yaml", where) as url:
            measurement = Measurement(Asker(url, user), Asker(url, steering))
            vision = profile_name == "vision"
            for name in operations() if vision else profile.operations:
                if args.operation and name not in args.operation:
                    continue
                if vision and not any(True for _ in probes(name, vision=True)):
                    continue
                _measure_operation(measurement, name, file, vision=vision, missing=args.missing)


def _measure_operation(measurement: Measurement, name: str, file: Recorded, *, vision: bool, missing: bool) -> None:
    refused = measurement.refused(name)
    if refused:
        file.operation_refused(name, refused)
        print(f"{name}: {refused}", flush=True)
        return
    seen = collectors(name)
    known = file.fields(name) if missing else frozenset()
    started_at, number = time.monotonic(), 0
    for number, (path, verdict) in enumerate(measurement.fields(name, seen, vision=vision, known=known), 1):
        file.field(name, path, verdict)
        if number % _REPORTED_FIELDS == 0:
            file.seen(name, seen)
            seconds = time.monotonic() - started_at
            print(f"{name}: {number} fields, {measurement.asked} requests, {seconds:.0f} s", flush=True)
    file.seen(name, seen)
    print(f"{name}: all {number} fields, {measurement.asked} requests", flush=True)


def _key(where: Path, caller: str, *more: str) -> str:
    words = ["keys", "new", "--file", str(where / "keys.yaml"), "--caller", caller, *more]
    done = run([sys.executable, "-m", "aibrix_extproc", *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@contextmanager
def _engine(args: argparse.Namespace, profile_name: str, where: Path) -> Iterator[str]:
    profile = PROFILES[profile_name]
    if args.engine:
        yield args.engine
        return
    if args.vllm is None:
        with simulated(profile, where, args.simulate) as url:
            yield url
        return
    run([str(args.vllm), "-W", "ignore", "-m", "tools.measure.models", str(args.models)], check=True)
    with vllm(args.vllm, args.models, profile, where, path=args.path, rust=args.rust) as url:
        yield url


def main() -> int:
    """Measure, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="", help="of the file to write, as in vllm-0.33")
    parser.add_argument("--stored", action="store_true", help="the gateway's own files, uploads, batches and responses")
    parser.add_argument("--vllm", type=Path, help="Python of an installed vLLM (else the simulator)")
    parser.add_argument("--engine", default="", help="address of one that runs already and serves the profile's model")
    parser.add_argument("--path", default="", help="folder of modules of vLLM that come before the installed ones")
    parser.add_argument("--simulate", default="0.33.0", help="version that the simulator imitates")
    parser.add_argument("--models", type=Path, default=Path(tempfile.gettempdir()) / "measured-models")
    parser.add_argument("--rust", action="store_true", help="vLLM's Rust frontend")
    parser.add_argument("--profile", action="append", choices=list(PROFILES), help="only these engines")
    parser.add_argument("--operation", action="append", help="only these operations")
    parser.add_argument("--missing", action="store_true", help="only fields that the file does not have yet")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    args = parser.parse_args()
    if args.stored:
        return _measure_stored(args.folder)
    if not args.name:
        parser.error("--name is missing")
    file = Recorded(args.folder / f"{args.name}.json")
    for profile_name in args.profile or PROFILES:
        measure(args, profile_name, file)
    return 0


def _measure_stored(folder: Path) -> int:
    with stack() as url:
        measurement = StoredMeasurement(url)
        document: Json = {}
        for name in stored_table():
            place, found = measurement.operation(name)
            document[name] = {place: found}
            print(f"{name}: {len(found)} fields, {measurement.asked} requests", flush=True)
    (folder / f"{STORED}.json").write_text(as_text(document), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
