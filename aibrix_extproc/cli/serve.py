"""`aibrix-extproc serve`: the ext_proc server, until SIGTERM."""

import argparse
import gc

from aibrix_extproc.cli.flags import add_settings_arguments, settings_of
from aibrix_extproc.cli.process import with_settings
from aibrix_extproc.settings import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """An option for every setting."""
    add_settings_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until a signal ends the process."""
    return with_settings(lambda: settings_of(args), _serve)


def _serve(settings: Settings) -> int:
    gc.disable()  # what is imported stays: looking for garbage in it takes a sixth of the time until we serve
    from aibrix_extproc.app.gateway import run_gateway

    gc.enable()
    return run_gateway(settings)
