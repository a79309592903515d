"""`aibrix-extproc metadata`: files, uploads and batches, until SIGTERM."""

import argparse
import sys

from aibrix_extproc.cli.flags import add_settings_arguments, settings_of
from aibrix_extproc.settings import SettingsError

EXIT_SETTINGS = 2
GROUPS = ("metadata", "metering", "admin", "log")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """An option for every setting that the service reads."""
    add_settings_arguments(parser, GROUPS)


def run(args: argparse.Namespace) -> int:
    """Serve until told to stop."""
    try:
        settings = settings_of(args)
    except SettingsError as error:
        print(f"aibrix-extproc: {error}", file=sys.stderr)
        return EXIT_SETTINGS
    try:
        from aibrix_extproc.app.metadata.service import run_metadata
    except ModuleNotFoundError as error:
        print(f"aibrix-extproc: metadata needs an extra ({error.name}): pip install -e '.[metadata]'", file=sys.stderr)
        return EXIT_SETTINGS
    return run_metadata(settings)
