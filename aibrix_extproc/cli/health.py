"""`aibrix-extproc health`: whether the gateway beside us is ready, as an exit code, for scripts without an HTTP client.

Images without a shell or curl have it for their health checks.
"""

import argparse
import json
import sys
from http import HTTPStatus
from typing import Final

from aibrix_extproc.cli.admin_port import NoAnswerError, address, ask
from aibrix_extproc.cli.flags import add_settings_arguments, settings_of
from aibrix_extproc.settings import AdminSettings, SettingsError

EXIT_NOT_WELL: Final = 1
EXIT_SETTINGS: Final = 2
DEFAULT_SECONDS: Final = 2.0
MAX_SECONDS: Final = 60.0
MAX_REPORT_BYTES: Final = 4096  # as much as Docker keeps of a health check


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The question, and the address of the admin server: the same settings as `serve` has."""
    parser.add_argument("--live", action="store_true", help="ask whether it is alive, not whether it is ready")
    parser.add_argument(
        "--timeout", type=_seconds, default=DEFAULT_SECONDS, metavar="SECONDS", help="how long it may take to answer"
    )
    add_settings_arguments(parser, groups=("admin",))


def run(args: argparse.Namespace) -> int:
    """0 if it is ready (or alive), 1 if not or if there is no answer, 2 if the settings cannot be used."""
    try:
        admin = settings_of(args).admin
    except SettingsError as error:
        print(f"aibrix-extproc: {error}", file=sys.stderr)
        return EXIT_SETTINGS
    state, path = ("alive", "/livez") if args.live else ("ready", "/readyz")
    objection = _objection(admin, path, args.timeout)
    if objection is None:
        print(state)
        return 0
    print(f"not {state}: {objection}", file=sys.stderr)
    return EXIT_NOT_WELL


def _objection(admin: AdminSettings, path: str, seconds: float) -> str | None:
    try:
        status, body = ask(admin, "GET", path, seconds, most=MAX_REPORT_BYTES)
    except NoAnswerError as error:
        return str(error)
    return None if status == HTTPStatus.OK else f"{address(admin)}{path} answers {status} {_on_one_line(body)}".rstrip()


def _on_one_line(body: bytes) -> str:
    text = body.decode("utf-8", "replace")
    try:
        return json.dumps(json.loads(text))
    except ValueError:
        return " ".join(text.split())


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= MAX_SECONDS:
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds up to {MAX_SECONDS:g}")
    return seconds
