"""`aibrix-extproc batch`: run a file of requests as a batch and follow it, with the OpenAI SDK and any base URL."""

import argparse
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aibrix_extproc.cli.connection import UsageError
from aibrix_extproc.cli.interruption import EXIT_INTERRUPTED, EXIT_TERMINATED, Terminated, say, sigterm_raises
from aibrix_extproc.cli.sdk_command import (
    EXIT_FAILED,
    add_verb,
    first,
    minute,
    print_json,
    print_table,
    run_verb,
)
from aibrix_extproc.cli.transfers import downloaded, uploaded

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types import Batch

_FILE_ID: Final = re.compile(r"file-[A-Za-z0-9-]{1,64}")
_COLUMNS: Final = ("id", "status", "model", "total", "completed", "failed", "created")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One subcommand per verb."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    run_it = add_verb(verbs, "run", _run, "upload a file, run it as a batch, follow it, write the results")
    run_it.add_argument(
        "file",
        type=Path,
        metavar="FILE.jsonl",
        help="requests in OpenAI's form, one a line; or the ID of a stored file",
    )
    run_it.add_argument("--endpoint", metavar="PATH", help="what every line asks (the first line's url if not given)")
    _add_results(run_it)
    follow = add_verb(verbs, "follow", _follow, "follow a batch to its end and write the results")
    follow.add_argument("id", metavar="ID", help="as `batch list` shows it")
    _add_results(follow)
    listed = add_verb(verbs, "list", _list, "show batches, newest first")
    listed.add_argument("--limit", type=int, default=20, metavar="N", help="at most this many (%(default)s)")
    listed.add_argument("--json", action="store_true", help="print JSON")
    for name, what in (("show", "show one batch as JSON"), ("cancel", "end a batch early and keep what is done")):
        add_verb(verbs, name, {"show": _show, "cancel": _cancel}[name], what).add_argument(
            "id", metavar="ID", help="as `batch list` shows it"
        )


def _add_results(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, metavar="FILE", help="answers (ID_output.jsonl if not given)")
    parser.add_argument("--errors", type=Path, metavar="FILE", help="all other lines (ID_error.jsonl if not given)")
    parser.add_argument("--json", action="store_true", help="print the ended batch as JSON")


def run(args: argparse.Namespace) -> int:
    """0: done, every line answered; 1: the batch failed or has failed lines, or the API refused; 2: wrong options.

    130 and 143: interrupted by Ctrl-C or SIGTERM. Whoever does not see the end is told how to go on.
    """
    args.rest = ""  # what is left to do, for a command that ends early
    try:
        with sigterm_raises():
            code = run_verb(args, "batch")
    except Terminated as error:
        code = error.exit_code
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    if code in (EXIT_INTERRUPTED, EXIT_TERMINATED):
        say(f"aibrix-extproc: interrupted{'' if args.rest else '; nothing was begun'}")
    if code != 0 and args.rest:
        say(args.rest)
    return code


def _run(client: "OpenAI", args: argparse.Namespace) -> int:
    stored = args.file.name if not args.file.exists() and _FILE_ID.fullmatch(str(args.file)) else None
    if stored and not args.endpoint:
        raise UsageError(f"name the --endpoint that the lines of {stored} ask")
    endpoint: Any = args.endpoint or _first_url(args.file)
    file_id = stored or uploaded(client, args.file, "batch").id
    args.rest = (
        f"{file_id} is stored. `batch list` shows whether a batch of it was begun; if not,"
        f" `batch run {file_id} --endpoint {endpoint}` goes on"
    )
    batch = client.batches.create(input_file_id=file_id, endpoint=endpoint, completion_window="24h")
    say(f"{batch.id} runs; Ctrl-C leaves it running, `batch follow {batch.id}` goes on")
    return _to_the_end(client, batch, args)


def _first_url(path: Path) -> str:
    try:
        with path.open(encoding="utf-8-sig") as file:
            first = next((line for line in file if line.strip()), "")
        return str(json.loads(first)["url"])
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: the first line names no url; name one with --endpoint") from error


def _follow(client: "OpenAI", args: argparse.Namespace) -> int:
    return _to_the_end(client, client.batches.retrieve(args.id), args)


def _to_the_end(client: "OpenAI", batch: "Batch", args: argparse.Namespace) -> int:
    from aibrix_extproc.cli.batch_progress import followed

    args.rest = f"`batch follow {batch.id}` goes on and writes the results"
    batch = followed(client, batch)
    written = [
        downloaded(client, file_id, path or Path(f"{batch.id}_{kind}.jsonl"))
        for kind, file_id, path in (
            ("output", batch.output_file_id, args.output),
            ("error", batch.error_file_id, args.errors),
        )
        if file_id
    ]
    args.rest = ""
    for one in batch.errors.data or [] if batch.errors else []:
        place = f"line {one.line}: " if one.line else ""
        say(f"{place}{one.message} ({one.code})")
    for path in written:
        say(f"wrote {path}")
    if args.json:
        print(batch.to_json())
    return 0 if batch.status == "completed" and batch.error_file_id is None else EXIT_FAILED


def _list(client: "OpenAI", args: argparse.Namespace) -> int:
    found = first(client.batches.list(limit=min(max(args.limit, 1), 100)), args.limit)
    if args.json:
        print_json(found)
    else:
        print_table(_COLUMNS, map(_row, found))
    return 0


def _row(batch: "Batch") -> tuple[str, ...]:
    counts = batch.request_counts
    numbers = (counts.total, counts.completed, counts.failed) if counts else (0, 0, 0)
    return (batch.id, batch.status, batch.model or "-", *map(str, numbers), minute(batch.created_at))


def _show(client: "OpenAI", args: argparse.Namespace) -> int:
    print(client.batches.retrieve(args.id).to_json())
    return 0


def _cancel(client: "OpenAI", args: argparse.Namespace) -> int:
    batch = client.batches.cancel(args.id)
    print(f"{batch.id} is {batch.status}")
    return 0
