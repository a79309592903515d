"""`aibrix-extproc batch`: run a file of requests as a batch and follow it, with the OpenAI SDK and any base URL."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aibrix_extproc.cli.connection import UsageError, add_base_url, add_key_options, where

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types import Batch

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
_COLUMNS: Final = ("id", "status", "model", "total", "completed", "failed", "created")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One subcommand per verb."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    run_it = _verb(verbs, "run", _run, "upload a file, run it as a batch, follow it, write the results")
    run_it.add_argument("file", type=Path, metavar="FILE.jsonl", help="requests in OpenAI's form, one a line")
    run_it.add_argument("--endpoint", metavar="PATH", help="what every line asks (the first line's url if not given)")
    _add_results(run_it)
    follow = _verb(verbs, "follow", _follow, "follow a batch to its end and write the results")
    follow.add_argument("id", metavar="ID")
    _add_results(follow)
    listed = _verb(verbs, "list", _list, "show batches, newest first")
    listed.add_argument("--limit", type=int, default=20, metavar="N", help="at most this many (%(default)s)")
    listed.add_argument("--json", action="store_true", help="print JSON")
    for name, what in (("show", "show one batch as JSON"), ("cancel", "end a batch early and keep what is done")):
        _verb(verbs, name, {"show": _show, "cancel": _cancel}[name], what).add_argument("id", metavar="ID")


def _verb(verbs: Any, name: str, run_verb: Any, summary: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(
        name, help=summary, description=summary[0].upper() + summary[1:] + ".", formatter_class=argparse.HelpFormatter
    )
    parser.set_defaults(verb_run=run_verb)
    add_base_url(parser)
    add_key_options(parser)
    return parser


def _add_results(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, metavar="FILE", help="answers (ID_output.jsonl if not given)")
    parser.add_argument("--errors", type=Path, metavar="FILE", help="all other lines (ID_error.jsonl if not given)")
    parser.add_argument("--json", action="store_true", help="print the ended batch as JSON")


def run(args: argparse.Namespace) -> int:
    """0: done, every line answered; 1: the batch failed or has failed lines, or the API refused; 2: wrong options."""
    try:
        from openai import APIConnectionError, APIStatusError, OpenAI
    except ModuleNotFoundError as error:
        print(f"aibrix-extproc: batch needs an extra ({error.name}): pip install -e '.[terminal]'", file=sys.stderr)
        return EXIT_USAGE
    try:
        base_url, key = where(args)
        return int(args.verb_run(OpenAI(base_url=base_url, api_key=key), args))
    except UsageError as error:
        print(f"aibrix-extproc: {error}", file=sys.stderr)
        return EXIT_USAGE
    except APIStatusError as error:
        body = error.body if isinstance(error.body, dict) else {}
        print(f"aibrix-extproc: {body.get('message') or error.message}", file=sys.stderr)
    except APIConnectionError:
        print(f"aibrix-extproc: nothing answers at {base_url}; see --base-url", file=sys.stderr)
    return EXIT_FAILED


def _run(client: "OpenAI", args: argparse.Namespace) -> int:
    endpoint: Any = args.endpoint or _first_url(args.file)
    with args.file.open("rb") as content:
        file = client.files.create(file=(args.file.name, content), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h")
    print(f"{batch.id} runs; Ctrl-C leaves it running, `batch follow {batch.id}` goes on", file=sys.stderr)
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

    batch = followed(client, batch)
    written = [
        _written(client, file_id, path or Path(f"{batch.id}_{kind}.jsonl"))
        for kind, file_id, path in (
            ("output", batch.output_file_id, args.output),
            ("error", batch.error_file_id, args.errors),
        )
        if file_id
    ]
    for one in batch.errors.data or [] if batch.errors else []:
        place = f"line {one.line}: " if one.line else ""
        print(f"{place}{one.message} ({one.code})", file=sys.stderr)
    for path in written:
        print(f"wrote {path}", file=sys.stderr)
    if args.json:
        print(batch.to_json())
    return 0 if batch.status == "completed" and batch.error_file_id is None else EXIT_FAILED


def _written(client: "OpenAI", file_id: str, path: Path) -> Path:
    """Fetch a file; it appears under its name when it is whole."""
    half = path.with_name(path.name + ".part")
    try:
        with client.files.with_streaming_response.content(file_id) as answer:
            answer.stream_to_file(half)
        half.replace(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        half.unlink(missing_ok=True)
    return path


def _list(client: "OpenAI", args: argparse.Namespace) -> int:
    found: list[Batch] = []
    for batch in client.batches.list(limit=min(max(args.limit, 1), 100)):
        if len(found) >= args.limit:
            break
        found.append(batch)
    if args.json:
        print(json.dumps([one.to_dict() for one in found], indent=2))
        return 0
    rows = [_COLUMNS, *(_row(one) for one in found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _row(batch: "Batch") -> tuple[str, ...]:
    from datetime import UTC, datetime

    counts = batch.request_counts
    numbers = (counts.total, counts.completed, counts.failed) if counts else (0, 0, 0)
    created = datetime.fromtimestamp(batch.created_at, UTC).strftime("%Y-%m-%d %H:%M")
    return (batch.id, batch.status, batch.model or "-", *map(str, numbers), created)


def _show(client: "OpenAI", args: argparse.Namespace) -> int:
    print(client.batches.retrieve(args.id).to_json())
    return 0


def _cancel(client: "OpenAI", args: argparse.Namespace) -> int:
    batch = client.batches.cancel(args.id)
    print(f"{batch.id} is {batch.status}")
    return 0
