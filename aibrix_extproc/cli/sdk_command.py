"""Shared by commands that use the OpenAI SDK: connection options of their verbs, exit codes, errors, tables."""

import argparse
import itertools
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from aibrix_extproc.cli.admin_client import refusal_text
from aibrix_extproc.cli.connection import UsageError, add_base_url, add_key_options, where

if TYPE_CHECKING:
    from openai import OpenAI

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2

VerbRun = Callable[["OpenAI", argparse.Namespace], int]


def add_verb(verbs: Any, name: str, run: VerbRun, summary: str) -> argparse.ArgumentParser:
    """A subcommand with the options of a connection; `run_verb` calls `run`."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        name, help=summary, description=summary[0].upper() + summary[1:] + ".", formatter_class=argparse.HelpFormatter
    )
    parser.set_defaults(verb_run=run)
    add_base_url(parser)
    add_key_options(parser)
    return parser


def run_verb(args: argparse.Namespace, command: str) -> int:
    """The exit code of a verb: its own, 1 if the API refuses or nobody answers, 2 for options that cannot be used."""
    try:
        from openai import APIConnectionError, APIStatusError, OpenAI
    except ModuleNotFoundError as error:
        print(f"aibrix-extproc: {command} needs an extra ({error.name}): pip install -e '.[terminal]'", file=sys.stderr)
        return EXIT_USAGE
    admin = getattr(args, "admin", False)
    try:
        base_url, key = where(args, admin=admin)
        return int(args.verb_run(OpenAI(base_url=base_url, api_key=key), args))
    except UsageError as error:
        print(f"aibrix-extproc: {error}", file=sys.stderr)
        return EXIT_USAGE
    except APIStatusError as error:
        body = error.body if isinstance(error.body, dict) else {}
        message = str(body.get("message") or "")
        text = refusal_text(str(error.request.url), error.status_code, error.code, message, admin=admin)
        print(f"aibrix-extproc: {printable(text)}", file=sys.stderr)
    except APIConnectionError:
        print(f"aibrix-extproc: nothing answers at {base_url}; see --base-url", file=sys.stderr)
    return EXIT_FAILED


def first(items: Iterable[Any], limit: int) -> list[Any]:
    """At most `limit` items; no further page is asked for than they need."""
    return list(itertools.islice(items, max(limit, 0)))


def print_json(items: Sequence[Any]) -> None:
    """SDK objects as a JSON array."""
    print(json.dumps([one.to_dict() for one in items], indent=2))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns as wide as their longest text."""
    lines = [list(columns), *([printable(text) for text in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(columns))]
    for line in lines:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def printable(text: str) -> str:
    """The text without characters that steer a terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)


def label(option: str, text: str) -> tuple[str, str]:
    """The key and the value of a label that an option names. Raises UsageError."""
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise UsageError(f"{option} {text} is no KEY=VALUE")
    return name, value


def second(seconds: float) -> str:
    """A time of the API, to the second, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def minute(seconds: float) -> str:
    """A time of the API, to the minute, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
