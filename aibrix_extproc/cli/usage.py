"""`aibrix-extproc usage`: what callers have used, as a table, CSV, JSON or bars in the terminal."""

import argparse
import csv
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from aibrix_extproc.cli.connection import UsageError, add_base_url, add_key_options
from aibrix_extproc.cli.sdk_command import minute, print_table, printable, run_verb

if TYPE_CHECKING:
    from openai import OpenAI

Row = dict[str, Any]

_OWN: Final = ("/usage",)
_ALL: Final = tuple(f"/organization/usage/{kind}" for kind in ("completions", "embeddings", "audio_transcriptions"))
_COSTS: Final = ("/organization/costs",)
# A word of --by -> the field of the API; None: each bucket has rows of its own.
_GROUPS: Final[Mapping[str, str | None]] = {
    "caller": "user_id",
    "key": "api_key_id",
    "model": "model",
    "operation": "operation",
    "batch": "batch",
    "time": None,
}
_SUMS: Final[Mapping[str, tuple[str, ...]]] = {
    "requests": ("num_model_requests",),
    "input": ("input_tokens",),
    "cached": ("input_cached_tokens",),
    "output": ("output_tokens",),
    "audio_s": ("seconds", "audio_seconds"),
}
_LONGEST: Final = {"1m": 1440, "1h": 168, "1d": 31}  # buckets of a page
_SECONDS: Final = {"1m": 60, "1h": 3600, "1d": 86_400}
_MOST_PAGES: Final = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whose usage, of which time, by what, and in which form."""
    parser.set_defaults(verb_run=_show)
    parser.add_argument("--all", dest="admin", action="store_true", help="of all callers; needs an administrator's key")
    parser.add_argument("--days", type=float, default=7.0, metavar="N", help="the last N days")
    parser.add_argument("--width", choices=tuple(_LONGEST), default="1d", help="width of a bucket: minute, hour, day")
    parser.add_argument("--by", nargs="+", choices=tuple(_GROUPS), default=["model"], metavar="WHAT",
        help=f"rows: {', '.join(_GROUPS)}; caller needs --all, operation is the caller's own only")  # fmt: skip
    parser.add_argument("--model", action="append", default=[], metavar="NAME", help="of this model only; repeatable")
    parser.add_argument("--caller", action="append", default=[], metavar="NAME", help="of this caller only, with --all")
    parser.add_argument("--costs", action="store_true", help="amounts in place of tokens, with --all")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="print CSV")
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--plot", action="store_true", help="draw tokens over time, or amounts")
    add_base_url(parser)
    add_key_options(parser)


def run(args: argparse.Namespace) -> int:
    """0: shown; 1: the API refused or nobody answered; 2: wrong options."""
    return run_verb(args, "usage")


def _show(client: "OpenAI", args: argparse.Namespace) -> int:
    by = ["time"] if args.plot else list(dict.fromkeys(args.by))
    rows = summed(_results(client, args, by), by, costs=args.costs)
    columns = [*by, *(("amount", "currency") if args.costs else _SUMS)]
    if args.json:
        print(json.dumps(rows, indent=2))
    elif args.csv:
        writer = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _cell(row[name]) for name in columns} for row in rows)
    elif args.plot:
        _plot(rows, costs=args.costs)
    else:
        print_table(columns, [[_cell(row[name]) for name in columns] for row in rows])
    return 0


def _results(client: "OpenAI", args: argparse.Namespace, by: Sequence[str]) -> Iterator[tuple[int, Row]]:
    """Start of the bucket and result, of all pages."""
    _refuse(args, by)
    width = "1d" if args.costs else args.width
    start = int(time.time() - args.days * 86_400)
    given = [("start_time", str(start)), ("bucket_width", width), ("limit", str(_LONGEST[width]))]
    given += [("group_by[]", field) for word in by if (field := _GROUPS[word]) is not None]
    given += [("models[]", name) for name in args.model] + [("user_ids[]", name) for name in args.caller]
    for path in _COSTS if args.costs else _ALL if args.admin else _OWN:
        page = ""
        for _ in range(_MOST_PAGES):
            found: Any = client.get(f"{path}?{urlencode([*given, ('page', page)])}", cast_to=object)
            for bucket in found["data"]:
                yield from ((bucket["start_time"], result) for result in bucket["results"])
            page = found["next_page"] or ""
            if not page:
                break


def _refuse(args: argparse.Namespace, by: Sequence[str]) -> None:
    """Raise UsageError for options that mean nothing together."""
    if not args.days > 0:
        raise UsageError("--days must be more than 0")
    if args.days * 86_400 / _SECONDS[args.width] > 100_000:
        raise UsageError(f"--days {args.days:g} has too many buckets of {args.width}; choose a greater --width")
    if args.admin and "operation" in by:
        raise UsageError("--by operation is for the caller's own usage, without --all")
    if not args.admin and (args.costs or args.caller or "caller" in by):
        raise UsageError("other callers and costs are for administrators: add --all")
    if args.costs and not {"caller", "key", "time"}.issuperset(by):
        raise UsageError("--costs can be shown by caller, key and time")


def summed(results: Iterator[tuple[int, Row]], by: Sequence[str], *, costs: bool) -> list[Row]:
    """One row for each group, the greatest first; by time in its order."""
    found: dict[tuple[Any, ...], Row] = {}
    for start, result in results:
        names = {word: start if field is None else result.get(field) for word in by for field in (_GROUPS[word],)}
        row = found.setdefault(tuple(names.values()), dict(names))
        if costs:
            row["amount"] = row.get("amount", 0.0) + result["amount"]["value"]
            row["currency"] = result["amount"]["currency"]
        else:
            for name, fields in _SUMS.items():
                row[name] = row.get(name, 0) + sum(result.get(field) or 0 for field in fields)
    for row in found.values():
        if "time" in row:
            row["time"] = minute(row["time"])
    if "time" in by:
        return sorted(found.values(), key=lambda row: [str(row[word]) for word in ("time", *by)])
    return sorted(found.values(), key=_weight, reverse=True)


def _weight(row: Row) -> tuple[float, float]:
    return float(row.get("amount", 0.0) or row.get("input", 0) + row.get("output", 0)), float(row.get("requests", 0))


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else printable(str(value))


def _plot(rows: Sequence[Row], *, costs: bool) -> None:
    from rich.bar import Bar
    from rich.console import Console
    from rich.table import Table

    values = [_weight(row)[0] for row in rows]
    table = Table(box=None, show_header=False, padding=(0, 1))
    for row, value in zip(rows, values, strict=True):
        shown = f"{value:.4f} {row['currency']}" if costs else f"{value:,.0f} tokens"
        table.add_row(row["time"], Bar(max(values) or 1, 0, value, width=50), shown)
    Console().print(table if rows else "nothing was used")
