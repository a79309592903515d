"""`python -m tools.measure`: measures engines and writes what was found (make measure).

A real vLLM is named by its Python, `--vllm .../bin/python`. Without it the simulator is measured.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import run
from typing import Any, Final

from tools.measure.answers import Seen
from tools.measure.asking import Asker
from tools.measure.engines import PROFILES, gateway, simulated, vllm
from tools.measure.measuring import Measurement
from tools.measure.plan import operations, probes
from tools.measure.stored import NAME as STORED
from tools.measure.stored import StoredMeasurement
from tools.measure.stored import table as stored_table
from tools.samples.running import stack

Json = dict[str, Any]

FOLDER: Final = Path(__file__).parents[2] / "aibrix_extproc" / "interfaces" / "verdicts"


def measured(args: argparse.Namespace, profile_name: str) -> Iterator[tuple[str, Json, dict[str, Seen]]]:
    """Start an engine and the gateway; the results of each operation."""
    profile = PROFILES[profile_name]
    with tempfile.TemporaryDirectory() as folder, _engine(args, profile_name, Path(folder)) as engine:
        where = Path(folder)
        user, steering = _key(where, "user"), _key(where, "steers", "--engine-controls")
        with gateway(engine, where / "keys.yaml", where) as url:
            measurement = Measurement(Asker(url, user), Asker(url, steering))
            vision = profile_name == "vision"
            names = operations() if vision else profile.operations
            for name in names:
                if args.operation and name not in args.operation:
                    continue
                if vision and not any(True for _ in probes(name, vision=True)):
                    continue
                found, seen = measurement.operation(name, vision=vision)
                print(f"{profile_name} {name}: {len(found)} fields, {measurement.asked} requests", flush=True)
                yield name, found, seen


def _key(where: Path, caller: str, *more: str) -> str:
    words = ["keys", "new", "--file", str(where / "keys.yaml"), "--caller", caller, *more]
    done = run([sys.executable, "-m", "aibrix_extproc", *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@contextmanager
def _engine(args: argparse.Namespace, profile_name: str, where: Path) -> Iterator[str]:
    profile = PROFILES[profile_name]
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
    parser.add_argument("--path", default="", help="folder of modules of vLLM that come before the installed ones")
    parser.add_argument("--simulate", default="0.33.0", help="version that the simulator imitates")
    parser.add_argument("--models", type=Path, default=Path(tempfile.gettempdir()) / "measured-models")
    parser.add_argument("--rust", action="store_true", help="vLLM's Rust frontend")
    parser.add_argument("--profile", action="append", choices=list(PROFILES), help="only these engines")
    parser.add_argument("--operation", action="append", help="only these operations")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    args = parser.parse_args()
    if args.stored:
        return _measure_stored(args.folder)
    if not args.name:
        parser.error("--name is missing")
    file = args.folder / f"{args.name}.json"
    document: Json = json.loads(file.read_text("utf-8")) if file.exists() else {}
    for profile_name in args.profile or PROFILES:
        for name, found, seen in measured(args, profile_name):
            known = document.setdefault(name, {})
            known["request"] = {**known.get("request", {}), **found}
            for place, one in seen.items():
                known[place] = _merged(known.get(place, {}), one.verdicts())
            file.write_text(written(document), encoding="utf-8")
    return 0


def _measure_stored(folder: Path) -> int:
    with stack() as url:
        measurement = StoredMeasurement(url)
        document: Json = {}
        for name in stored_table():
            place, found = measurement.operation(name)
            document[name] = {place: found}
            print(f"{name}: {len(found)} fields, {measurement.asked} requests", flush=True)
    (folder / f"{STORED}.json").write_text(written(document), encoding="utf-8")
    return 0


def _merged(before: Json, now: Json) -> Json:
    rank = {"absent": 0, "null": 1, "seen": 2}
    return {path: max(what, before.get(path, what), key=rank.__getitem__) for path, what in now.items()}


def written(document: Json) -> str:
    """One line for each field, sorted, so that a change reads well as a difference."""
    operations_text = []
    for name in sorted(document):
        places = []
        for place in sorted(document[name]):
            rows = document[name][place]
            lines = [f"   {json.dumps(path)}: {json.dumps(rows[path], ensure_ascii=False)}" for path in sorted(rows)]
            places.append(f"  {json.dumps(place)}: {{\n" + ",\n".join(lines) + "\n  }")
        operations_text.append(f" {json.dumps(name)}: {{\n" + ",\n".join(places) + "\n }")
    return "{\n" + ",\n".join(operations_text) + "\n}\n"


if __name__ == "__main__":
    sys.exit(main())
