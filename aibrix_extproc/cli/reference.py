"""`aibrix-extproc reference`: the pages under docs/ that repeat what tables in the code say.

Prose is never generated and tables are never typed: a page is a short head and tables from the code.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from aibrix_extproc.cli.reference_api import api_page
from aibrix_extproc.cli.reference_command_line import command_line_page
from aibrix_extproc.cli.reference_conformance import conformance_page
from aibrix_extproc.cli.reference_engines import engine_operations_page
from aibrix_extproc.cli.reference_exchange import exchange_page
from aibrix_extproc.cli.reference_markdown import COMMAND
from aibrix_extproc.cli.reference_openapi import openapi_document
from aibrix_extproc.cli.reference_pages import pages
from aibrix_extproc.cli.reference_settings import configuration_page
from aibrix_extproc.cli.reference_tables import errors_page, labels_page, metrics_page, strategies_page

EXIT_STALE: Final = 1
EXIT_USAGE: Final = 2

PAGES: Final[Mapping[str, Callable[[], str]]] = MappingProxyType(
    {
        "api.md": api_page,
        "openapi.json": openapi_document,
        "errors.md": errors_page,
        "configuration.md": configuration_page,
        "strategies.md": strategies_page,
        "metrics.md": metrics_page,
        "labels.md": labels_page,
        "command-line.md": command_line_page,
        "engine-operations.md": engine_operations_page,
        "exchange.md": exchange_page,
        "conformance.md": conformance_page,
        **pages(),
    }
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`--write` or `--check`."""
    parser.formatter_class = argparse.HelpFormatter
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--write", action="store_true", help="write the pages")
    what.add_argument("--check", action="store_true", help="exit with 1 if a page is not what the code says (default)")
    parser.add_argument("--docs", type=Path, default=Path("docs"), metavar="DIR", help="where they are (default: docs)")


def run(args: argparse.Namespace) -> int:
    """Write or check."""
    if not args.docs.is_dir():
        print(
            f"aibrix-extproc: no folder {args.docs}; run this in the repository or name it: --docs DIR", file=sys.stderr
        )
        return EXIT_USAGE
    stale = stale_pages(args.docs)
    if args.write:
        for name, text in stale.items():
            (args.docs / name).parent.mkdir(exist_ok=True)
            (args.docs / name).write_text(text, encoding="utf-8")
            print(f"wrote {args.docs / name}")
        return 0
    for name in stale:
        print(f"{args.docs / name} is not what the code says; run: {COMMAND}", file=sys.stderr)
    return EXIT_STALE if stale else 0


def stale_pages(docs: Path) -> Mapping[str, str]:
    """The pages that are missing or differ, with the text that they should have."""
    made = {name: make() for name, make in PAGES.items()}
    return {name: text for name, text in made.items() if _read(docs / name) != text}


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return None
