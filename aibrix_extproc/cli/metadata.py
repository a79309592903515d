"""`aibrix-extproc metadata`: the service, until SIGTERM; `purge` removes all that a caller has stored."""

import argparse
import json
import sys
from collections.abc import Callable

from aibrix_extproc.cli.flags import add_settings_arguments, settings_of
from aibrix_extproc.cli.process import EXIT_SETTINGS, with_settings
from aibrix_extproc.settings import Settings

EXIT_FAILED = 1
GROUPS = ("metadata", "metering", "usage", "fleet", "kubernetes", "admin", "log")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """An option for every setting that the service reads, and a verb."""
    add_settings_arguments(parser, GROUPS)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")
    purge = verbs.add_parser(
        "purge", help="remove all files, uploads and batches of a caller", description=_PURGE, allow_abbrev=False
    )
    purge.add_argument("--caller", required=True, metavar="NAME", help="whose; take its keys away first")
    purge.add_argument("--yes", action="store_true", required=True, help="there is no way back")


_PURGE = (
    "Remove all files, uploads and batches of a caller, also those that run. The options of `metadata` that say where"
    " the state is stand before `purge`."
)


def run(args: argparse.Namespace) -> int:
    """Serve until a signal ends the process, or purge. 0: done; 1: not done to its end; 2: the settings are wrong."""
    return with_settings(
        lambda: settings_of(args),
        lambda settings: _with_extra(
            lambda: _purge(settings, args.caller) if args.verb == "purge" else _serve(settings)
        ),
    )


def _with_extra(run: Callable[[], int]) -> int:
    try:
        return run()
    except ModuleNotFoundError as error:
        print(f"aibrix-extproc: metadata needs an extra ({error.name}): pip install -e '.[metadata]'", file=sys.stderr)
        return EXIT_SETTINGS


def _serve(settings: Settings) -> int:
    from aibrix_extproc.app.metadata.service import run_metadata

    return run_metadata(settings)


def _purge(settings: Settings, caller: str) -> int:
    from aibrix_extproc.app.metadata.purging import PurgeError, purge_caller

    try:
        found = purge_caller(settings.metadata, caller)
    except PurgeError as error:
        print(f"aibrix-extproc: not everything is removed, try again: {error}", file=sys.stderr)
        return EXIT_FAILED
    print(json.dumps({"caller": caller, "batches": found.batches, "uploads": found.uploads, "files": found.files}))
    return 0
