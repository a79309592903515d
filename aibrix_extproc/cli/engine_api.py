"""The requests of `engines`, `operations` and `adapters` to `/admin/v1`, and the following of a run to its end."""

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from aibrix_extproc.cli.admin_client import AdminClient, AdminError, admin_client, segment
from aibrix_extproc.cli.colours import PlainConsole, console
from aibrix_extproc.cli.connection import UsageError
from aibrix_extproc.cli.sdk_command import EXIT_FAILED, EXIT_USAGE, printable

ENDED: Final = ("succeeded", "failed", "cancelled")
STYLES: Final[Mapping[str, str]] = {
    "ready": "green", "succeeded": "green", "done": "green",
    "failed": "bold red", "unreachable": "red", "rolled_back": "red", "silent": "red", "not_ready": "red",
    "asleep": "blue", "cancelled": "yellow", "cordoned": "yellow", "draining": "yellow",
    "running": "cyan", "verifying": "cyan", "queued": "dim", "pending": "dim",
}  # fmt: skip
_RETRY_SECONDS: Final = 1.0


def run_verb(args: argparse.Namespace) -> int:
    """The exit code of a verb: its own, 1 if the API refuses or nobody answers, 2 for options that cannot be used."""
    try:
        return int(args.verb_run(admin_client(args), args))
    except UsageError as error:
        print(f"aibrix-extproc: {error}", file=sys.stderr)
        return EXIT_USAGE
    except AdminError as error:
        print(f"aibrix-extproc: {printable(str(error))}", file=sys.stderr)
        return EXIT_FAILED


def ask(client: AdminClient, method: str, path: str, body: object = None, **headers: str) -> Any:
    """The JSON of one request to `/admin/v1`. Raises AdminError."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.ask(method, f"/admin/v1{path}", body, named)


def records(client: AdminClient, path: str) -> Iterator[Any]:
    """All records of a list below `/admin/v1`. Raises AdminError."""
    return client.pages(f"/admin/v1{path}")


def followed(client: AdminClient, run: Any) -> Any:
    """The run when it has ended; each change of an endpoint is told on the way. Ctrl-C leaves it running."""
    told: dict[str, str] = {}
    away = False
    screen = console(sys.stderr)
    _tell(screen, run, told)
    while run["status"] not in ENDED:
        try:
            for event in client.events(f"/admin/v1/operations/{segment(run['id'])}/events"):
                away = False
                _tell(screen, event, told)
                run = event
        except AdminError as error:
            if 0 < error.status < 500:
                raise
            if not away:
                print("the service does not answer; the operation goes on, and so does this command", file=sys.stderr)
            away = True
            time.sleep(_RETRY_SECONDS)
    return run


def _tell(screen: PlainConsole, run: Any, told: dict[str, str]) -> None:
    if told.get("") != run["status"]:
        told[""] = run["status"]
        screen.write(f"{printable(run['id'])} ")
        screen.write(f"{run['status']}\n", STYLES.get(run["status"], ""))
    for endpoint in run["endpoints"]:
        state = f"{endpoint['phase']} {endpoint['detail']}".strip()
        if endpoint["phase"] != "pending" and told.get(endpoint["identity"]) != state:
            told[endpoint["identity"]] = state
            screen.write(f"  {printable(endpoint['name'] or endpoint['address'])} ")
            screen.write(endpoint["phase"], STYLES.get(endpoint["phase"], ""))
            screen.write(f" {printable(endpoint['detail'])}".rstrip() + "\n")


def print_states(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]], state: int) -> None:
    """A table whose column `state` is coloured on a terminal."""
    screen = console(sys.stdout)
    lines = [columns, *[tuple(map(printable, row)) for row in rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(columns))]
    for number, line in enumerate(lines):
        for column, text in enumerate(line):
            last = column == len(line) - 1
            style = STYLES.get(text.partition(",")[0], "") if number and column == state else ""
            screen.write(text, style or ("bold" if not number else ""))
            screen.write("\n" if last else " " * (widths[column] - len(text) + 2))
