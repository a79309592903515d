"""`aibrix-extproc replay`: what a trace of requests would have met with other strategies or other engines."""

import argparse
import gzip
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from aibrix_extproc.cli.connection import UsageError
from aibrix_extproc.cli.sdk_command import print_table
from aibrix_extproc.core.nearest import did_you_mean
from aibrix_extproc.core.routing.mix import InvalidMix
from aibrix_extproc.core.routing.registry import STRATEGIES
from aibrix_extproc.replay.compare import Setting, compared, router_of
from aibrix_extproc.replay.engine_model import EngineShape
from aibrix_extproc.replay.figures import Figures
from aibrix_extproc.replay.peers import PEERS
from aibrix_extproc.replay.picture import picture
from aibrix_extproc.replay.simulation import Outcome
from aibrix_extproc.replay.trace import Trace, TraceError, sped_up
from aibrix_extproc.replay.traces.form import FORMS, read_trace
from aibrix_extproc.replay.workloads.table import WORKLOADS

EXIT_USAGE: Final = 2
_DEFAULT: Final = ("predicted", "least-request", "round-robin", "llm-d")
_GZIP: Final = b"\x1f\x8b"
_COLUMNS: Final = ("strategy", "engines", "hits", "TTFT mean", "p50", "p95", "p99", "total p95", "tokens/s", "busiest")
Found = list[tuple[Figures, Outcome]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The trace, the engines and the strategies."""
    add = parser.add_argument
    words = ", ".join(f"{name} ({one.meaning})" for name, one in WORKLOADS.items())
    add("what", metavar="TRACE", help=f"a file, also gzipped, or a generated workload: {words}")
    add("--form", choices=tuple(FORMS), help="of the file: Mooncake's JSON lines, Azure's CSV, a gateway's own log;"
        " found out if not given")  # fmt: skip
    add("--strategy", nargs="+", default=None, metavar="NAME", help="`all`, or strategies of this gateway"
        f" ({', '.join(STRATEGIES)}), mixes of them (a:2,b:1), and those of others ({', '.join(PEERS)})")  # fmt: skip
    add("--engines", type=_count, nargs="+", default=[8], metavar="N", help="how many engines; a row for each number")
    add("--slow", action="append", default=[], metavar="ENGINE=FACTOR", help="engine number ENGINE, from 0 on, is so"
        " many times slower; repeatable")  # fmt: skip
    add("--prefill", type=_positive, default=EngineShape().prefill_tokens_per_second, metavar="TOKENS",
        help="prompt tokens that an engine computes in a second")  # fmt: skip
    add(
        "--cache",
        type=_count,
        default=EngineShape().cache_tokens,
        metavar="TOKENS",
        help="that an engine's cache holds",
    )
    add(
        "--one-at-a-time", action="store_true", help="engines compute one prompt after the other, and decode in no time"
    )
    add(
        "--gateways",
        type=_count,
        default=1,
        metavar="N",
        help="gateways; requests come to each by chance",
    )
    add("--share", type=_positive, default=None, metavar="SECONDS", help="after which gateways know of each other's"
        " requests, as with `routing.share`; without it they share nothing")  # fmt: skip
    add("--speedup", type=_positive, default=1.0, metavar="FACTOR", help="so many times the rate of the trace")
    add(
        "--requests",
        type=_count,
        default=None,
        metavar="N",
        help="the first N requests only; 6000 of a workload if not given",
    )
    add(
        "--skip", type=int, default=0, metavar="N", help="leave the first N requests out of the figures, not of the run"
    )
    add("--seed", type=int, default=1, metavar="N", help="of the workload and of all chance: the same gives the same")
    add("--json", action="store_true", help="print JSON")
    add("--svg", type=Path, metavar="FILE", help="draw the times to the first token")


def run(args: argparse.Namespace) -> int:
    """0: shown; 2: wrong options, or a trace that cannot be read."""
    try:
        found = _run(args)
    except (UsageError, InvalidMix, TraceError) as error:
        print(f"aibrix-extproc replay: {error}", file=sys.stderr)
        return EXIT_USAGE
    if args.json:
        print(json.dumps([msgspec.to_builtins(row) for row, _ in found], indent=2))
    else:
        print_table(_COLUMNS, [_cells(row) for row, _ in found])
    return 0


def _run(args: argparse.Namespace) -> Found:
    settings = [_setting(args, engines) for engines in args.engines]
    strategies = _strategies(args.strategy)
    trace = _trace(args)
    if args.skip >= len(trace.requests):
        raise UsageError(f"--skip {args.skip} leaves nothing of {len(trace.requests)} requests")
    if not trace.has_prefixes:
        print("the trace tells nothing of prefixes: all prompts are taken as different", file=sys.stderr)
    found: Found = []
    with _progress(len(settings) * len(strategies) * len(trace.requests)) as advance:
        for setting in settings:
            found += compared(trace, strategies, setting, advance)
    if args.svg is not None:
        _draw(args.svg, trace, found, several=len(settings) > 1)
    return found


def _setting(args: argparse.Namespace, engines: int) -> Setting:
    shape = EngineShape(prefill_tokens_per_second=args.prefill, cache_tokens=args.cache)
    slow = tuple(_slow(word, engines) for word in args.slow)
    return Setting(
        engines,
        shape,
        slow,
        gateways=args.gateways,
        share_seconds=args.share,
        seed=args.seed,
        batching=not args.one_at_a_time,
        skip=max(args.skip, 0),
    )


def _slow(word: str, engines: int) -> tuple[int, float]:
    name, _, factor = word.partition("=")
    try:
        number, times = int(name), float(factor)
    except ValueError:
        raise UsageError(f"--slow {word}: write the engine's number and a factor, as 5=5") from None
    if not 0 <= number < engines:
        raise UsageError(f"--slow {word}: engines have the numbers 0 to {engines - 1}")
    if not 0 < times < 1e6:
        raise UsageError(f"--slow {word}: the factor must be more than 0")
    return number, times


def _strategies(named: Sequence[str] | None) -> list[str]:
    names = list(named or _DEFAULT)
    if "all" in names:
        names = [*STRATEGIES, *PEERS]
    for name in names:
        try:
            router_of(name)
        except InvalidMix as error:
            hint = did_you_mean(name, (*STRATEGIES, *PEERS))
            raise UsageError(f"--strategy {name}: {str(error).rstrip('.')}{hint}") from error
    return list(dict.fromkeys(names))


def _trace(args: argparse.Namespace) -> Trace:
    path = Path(args.what)
    if args.what in WORKLOADS and not path.is_file():
        trace = WORKLOADS[args.what].make(args.seed, args.requests or 6000)
    else:
        trace = _read(path, args.form)
    if args.requests is not None:
        trace = Trace(trace.name, trace.requests[: args.requests], trace.block_tokens)
    return sped_up(trace, args.speedup)


def _read(path: Path, form: str | None) -> Trace:
    try:
        with path.open("rb") as file:
            packed = file.read(2) == _GZIP
        with gzip.open(path) if packed else path.open("rb") as lines:
            return read_trace(path.name, lines, form)
    except TraceError as error:
        raise TraceError(f"{path}: {error}") from error
    except (OSError, EOFError) as error:
        hint = did_you_mean(str(path), WORKLOADS)
        raise UsageError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}{hint}") from error


def _cells(row: Figures) -> tuple[str, ...]:
    times = (row.ttft_mean, row.ttft_p50, row.ttft_p95, row.ttft_p99, row.total_p95)
    return (
        row.strategy, str(row.engines), f"{row.hit_rate:.1%}", *(f"{one:.3f}" for one in times),
        f"{row.tokens_per_second:.0f}", f"{row.busiest:.2f}",
    )  # fmt: skip


def _draw(path: Path, trace: Trace, found: Found, *, several: bool) -> None:
    waits = {
        f"{row.strategy}, {row.engines} engines" if several else row.strategy: sorted(
            one.first_token - one.arrived for one in outcome.visits[len(outcome.visits) - row.requests :]
        )
        for row, outcome in found
    }
    path.write_text(picture(f"{trace.name}: time to the first token", waits), encoding="utf-8")
    print(f"wrote {path}", file=sys.stderr)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """A function that takes the number of requests done, and draws a bar at a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("replaying", total=total)
        last = 0

        def advance(done: int) -> None:
            nonlocal last
            bar.advance(task, done - last if done >= last else done)
            last = done

        yield advance


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < 1e12:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number
