"""`aibrix-extproc operations`: operations over engines that were asked for, and how far they are."""

import argparse
import json
from typing import Any, Final

from aibrix_extproc.cli.admin_client import AdminClient, segment
from aibrix_extproc.cli.engine_api import ENDED, ask, followed, print_states, run_verb
from aibrix_extproc.cli.sdk_command import EXIT_FAILED, add_verb, minute, second

_COLUMNS: Final = ("id", "status", "operations", "endpoints", "done", "by", "created")
_STEPS: Final = ("endpoint", "phase", "detail")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One subcommand per verb."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    listed = add_verb(verbs, "list", _list, "show operations, newest first")
    listed.add_argument("--limit", type=int, default=20, metavar="N", help="at most this many, up to 100 (%(default)s)")
    for name, run, what in (
        ("show", _show, "show one operation with its history"),
        ("follow", _follow, "follow an operation to its end"),
        ("cancel", _cancel, "end an operation before its next endpoint"),
    ):
        add_verb(verbs, name, run, what).add_argument("id", metavar="ID", help="as `operations list` shows it")
    for verb in verbs.choices.values():
        verb.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """0: done, or the followed operation succeeded; 1: it did not, or the API refused; 2: wrong options."""
    return run_verb(args)


def _path(run_id: str) -> str:
    return f"/operations/{segment(run_id)}"


def _list(client: AdminClient, args: argparse.Namespace) -> int:
    found = ask(client, "GET", f"/operations?limit={min(max(args.limit, 1), 100)}")
    if args.json:
        print(json.dumps(found["data"], indent=2))
    else:
        print_states(_COLUMNS, [_row(run) for run in found["data"]], 1)
    return 0


def _row(run: Any) -> tuple[str, ...]:
    names = ", ".join([run["operation"], *(one["operation"] for one in run["then"])])
    counts = str(len(run["endpoints"])), str(run["counts"]["done"])
    return (run["id"], run["status"], names, *counts, run["created_by"], minute(run["created_at"]))


def _show(client: AdminClient, args: argparse.Namespace) -> int:
    run = ask(client, "GET", _path(args.id))
    if args.json:
        print(json.dumps(run, indent=2))
        return 0
    print_states(_COLUMNS, [_row(run)], 1)
    print()
    print_states(_STEPS, [(one["name"] or one["address"], one["phase"], one["detail"]) for one in run["endpoints"]], 1)
    print()
    history = [(second(one["at"]), one["endpoint"] or "-", one["text"]) for one in run["history"]]
    print_states(("at", "endpoint", "what happened"), history, -1)
    return 0


def _follow(client: AdminClient, args: argparse.Namespace) -> int:
    return print_ended(followed(client, ask(client, "GET", _path(args.id))), as_json=args.json)


def print_ended(run: Any, *, as_json: bool) -> int:
    """Print an ended run; the exit code."""
    if as_json:
        print(json.dumps(run, indent=2))
    else:
        print_states(
            _STEPS, [(one["name"] or one["address"], one["phase"], one["detail"]) for one in run["endpoints"]], 1
        )
    return 0 if run["status"] == "succeeded" else EXIT_FAILED


def _cancel(client: AdminClient, args: argparse.Namespace) -> int:
    run = ask(client, "POST", f"{_path(args.id)}/cancel")
    more = "" if run["status"] in ENDED else ", and ends"
    print(json.dumps(run, indent=2) if args.json else f"{run['id']} is {run['status']}{more}")
    return 0
