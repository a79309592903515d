"""The `aibrix-extproc` command: arguments in, exit code out.

Subcommands are imported when they run, so that `--help` and `serve` stay quick to start.
"""

import argparse
import errno
import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TextIO

from aibrix_extproc import __version__
from aibrix_extproc.cli.interruption import EXIT_INTERRUPTED
from aibrix_extproc.cli.parser import Help, Parser


@dataclass(frozen=True, slots=True)
class Command:
    """A subcommand: its module gives `add_arguments(parser)` and `run(args) -> exit code`."""

    name: str
    module: str
    summary: str


COMMANDS: Final = (
    Command("local", "aibrix_extproc.app.local.run", "start Envoy, the gateway and engines behind one OpenAI base URL"),
    Command("serve", "aibrix_extproc.cli.serve", "run the ext_proc server"),
    Command("health", "aibrix_extproc.cli.health", "ask the admin server beside us whether the gateway is ready"),
    Command("explain", "aibrix_extproc.cli.explain", "say why a request went to its engine, or where one would go now"),
    Command("picker", "aibrix_extproc.cli.picker", "run the ext_proc server as an endpoint picker of an InferencePool"),
    Command("metadata", "aibrix_extproc.cli.metadata", "run the service of files, uploads and batches"),
    Command("simulate", "aibrix_extproc.simulator.cli", "run a vLLM-compatible engine that needs no GPU"),
    Command("engines", "aibrix_extproc.cli.engines", "list, cordon, drain, sleep, wake and update engines"),
    Command("operations", "aibrix_extproc.cli.operations", "list, follow and cancel operations over engines"),
    Command("batch", "aibrix_extproc.cli.batch", "run a file of requests as a batch and follow it"),
    Command("files", "aibrix_extproc.cli.files", "store, fetch, list and delete files of any OpenAI base URL"),
    Command("usage", "aibrix_extproc.cli.usage", "show what callers have used, and what it cost"),
    Command("chat", "aibrix_extproc.cli.chat", "chat in the terminal with a model of any OpenAI base URL"),
    Command("adapters", "aibrix_extproc.cli.adapters", "have LoRA adapters loaded on engines, and see their states"),
    Command("keys", "aibrix_extproc.cli.keys", "make, list, revoke and check API keys"),
    Command(
        "certificates", "aibrix_extproc.cli.certificates", "make the certificates of the processors and their Envoys"
    ),
    Command("conformance", "aibrix_extproc.conformance.cli", "ask any base URL what an OpenAI endpoint must answer"),
    Command("replay", "aibrix_extproc.cli.replay", "simulate a trace with other strategies, engines or speeds"),
    Command("doctor", "aibrix_extproc.cli.doctor", "look for what is wrong with an installation on Kubernetes"),
    Command("config", "aibrix_extproc.cli.config", "print the effective settings and where each came from"),
    Command("completion", "aibrix_extproc.cli.completion", "print a script that completes commands in your shell"),
    Command("reference", "aibrix_extproc.cli.reference", "write or check the generated reference pages"),
)

EXIT_OUTPUT: Final = 1

_OUTPUT_LOST: Final = (errno.ENOSPC, errno.EIO)


def parser_for(wanted: str | None, *, whole: bool = False) -> argparse.ArgumentParser:
    """The parser; only the wanted subcommand's module is imported for its arguments, all of them for the `whole`."""
    parser = Parser(
        prog="aibrix-extproc",
        description="Makes a fleet of vLLM engines behind Envoy look exactly like the OpenAI API.",
        epilog="Start here: aibrix-extproc local",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        sub = commands.add_parser(
            command.name,
            help=command.summary,
            description=command.summary[0].upper() + command.summary[1:] + ".",
            formatter_class=Help,
        )
        if whole or command.name == wanted:
            importlib.import_module(command.module).add_arguments(sub)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    _open_missing_streams()
    try:
        code = _run(words)
        sys.stdout.flush()  # here: at the end of Python an error of it would not be reported
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        _drop_output()
        return 0
    except OSError as error:
        if error.filename is not None or error.errno not in _OUTPUT_LOST:
            raise
        _drop_output()
        print(f"aibrix-extproc: the output cannot be written: {error.strerror}", file=sys.stderr)
        return EXIT_OUTPUT
    return code


def _run(words: Sequence[str]) -> int:
    wanted = next((word for word in words if not word.startswith("-")), None)
    args = parser_for(wanted).parse_args(words)
    module = next(command.module for command in COMMANDS if command.name == args.command)
    return int(importlib.import_module(module).run(args))


def _open_missing_streams() -> None:
    """Started with a closed standard output (`>&-`), Python has none."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, _nowhere())


def _drop_output() -> None:
    """Let nothing that is still buffered be tried again when Python ends."""
    sys.stdout = _nowhere()


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
