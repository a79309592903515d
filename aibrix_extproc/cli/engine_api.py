"""What the commands `engines` and `operations` ask of `/admin/v1`, and how they follow a run to its end."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from aibrix_extproc.cli.colours import PlainConsole, console
from aibrix_extproc.cli.sdk_command import printable

if TYPE_CHECKING:
    from openai import OpenAI

ENDED: Final = ("succeeded", "failed", "cancelled")
STYLES: Final[Mapping[str, str]] = {
    "ready": "green", "succeeded": "green", "done": "green",
    "failed": "bold red", "unreachable": "red", "rolled_back": "red", "silent": "red", "not_ready": "red",
    "asleep": "blue", "cancelled": "yellow", "cordoned": "yellow", "draining": "yellow",
    "running": "cyan", "verifying": "cyan", "queued": "dim", "pending": "dim",
}  # fmt: skip
_RETRY_SECONDS: Final = 1.0
_PAGE: Final = 100  # records


def ask(client: "OpenAI", method: str, path: str, body: object = None, **headers: str) -> Any:
    """The JSON of one request to `/admin/v1`."""
    url = str(client.base_url.join(f"/admin/v1{path}"))
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    match method:
        case "GET":
            return client.get(url, cast_to=object)
        case "DELETE":
            return client.delete(url, cast_to=object)
        case _:
            return client.post(url, cast_to=object, body=body, options={"headers": named})


def pages(client: "OpenAI", path: str) -> Iterator[Any]:
    """All records of a list."""
    after = ""
    while True:
        page = ask(client, "GET", f"{path}?limit={_PAGE}{f'&after={quote(after)}' if after else ''}")
        yield from page["data"]
        after = page.get("last_id") or ""
        if not page["has_more"] or not after:
            return


def followed(client: "OpenAI", run: Any) -> Any:
    """The run when it has ended; each change of an endpoint is told on the way. Ctrl-C leaves it running."""
    from openai import APIConnectionError, InternalServerError

    told: dict[str, str] = {}
    away = False
    screen = console(sys.stderr)
    _tell(screen, run, told)
    while run["status"] not in ENDED:
        try:
            for event in _events(client, run["id"]):
                away = False
                _tell(screen, event, told)
                run = event
        except (APIConnectionError, InternalServerError):
            if not away:
                print("the service does not answer; the operation goes on, and so does this command", file=sys.stderr)
            away = True
            time.sleep(_RETRY_SECONDS)
    return run


def _events(client: "OpenAI", run_id: str) -> Any:
    """The run with each change, until its end or that of the connection."""
    from openai import Stream

    url = str(client.base_url.join(f"/admin/v1/operations/{quote(run_id, safe='')}/events"))
    return client.get(url, cast_to=object, stream=True, stream_cls=Stream[object])


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
