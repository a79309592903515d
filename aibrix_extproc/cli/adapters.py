"""`aibrix-extproc adapters`: say which LoRA adapters shall be loaded, and see what became of them."""

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from aibrix_extproc.cli.admin_client import AdminClient, AdminError
from aibrix_extproc.cli.connection import UsageError
from aibrix_extproc.cli.engine_api import ask, records, run_verb
from aibrix_extproc.cli.sdk_command import EXIT_FAILED, add_verb, label, print_table, printable

LOOK_SECONDS: Final = 0.3
MAX_FILE_BYTES: Final = 4 * 1024 * 1024
_COLUMNS: Final = ("name", "base", "state", "loaded", "replicas", "path")
_ENGINES: Final = ("endpoint", "name", "state", "path", "detail")
_FIELDS: Final = ("path", "base", "replicas", "placement", "pinned", "lazy")

Adapter = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One subcommand per verb."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    _json(add_verb(verbs, "list", _list, "show the desired adapters and their states"))
    show = _json(add_verb(verbs, "show", _show, "show one adapter and its state on each engine"))
    show.add_argument("name", metavar="NAME", help="as `adapters list` shows it")
    load = _waiting(add_verb(verbs, "load", _load, "have an adapter loaded, now and after each restart of an engine"))
    load.add_argument("name", metavar="NAME", help="what clients write as `model`")
    load.add_argument("path", metavar="PATH", help="where engines find it: a path, ORGANISATION/NAME, or a URL")
    load.add_argument("--base", required=True, metavar="MODEL", help="the model that it adapts")
    load.add_argument("--replicas", default="all", metavar="N|all", help="on how many engines (%(default)s)")
    load.add_argument(
        "--placement", action="append", default=[], metavar="LABEL=VALUE", help="a label that engines must have"
    )
    load.add_argument("--pinned", action="store_true", help="never unload it to make room")
    load.add_argument("--lazy", action="store_true", help="load it with the first request for it")
    load.add_argument("--replace", action="store_true", help="load it in place of another one of that name")
    unload = _waiting(add_verb(verbs, "unload", _unload, "have an adapter unloaded, and forget it"))
    unload.add_argument("name", metavar="NAME", help="as `adapters list` shows it")
    sync = _waiting(add_verb(verbs, "sync", _sync, "make the desired adapters those of a file"))
    sync.add_argument("file", type=Path, metavar="FILE.json", help='{"adapters": [{"name": ..., "path": ..., ...}]}')
    sync.add_argument("--prune", action="store_true", help="unload desired adapters that the file does not have")


def _json(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _waiting(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("--no-wait", action="store_true", help="do not wait for the engines")
    parser.add_argument(
        "--timeout", type=float, default=120.0, metavar="SECONDS", help="wait at most so long (%(default)g)"
    )
    return _json(parser)


def run(args: argparse.Namespace) -> int:
    """0: done; 1: the API refused, or an engine failed, or the time is over; 2: options that cannot be used."""
    return run_verb(args)


def _list(client: AdminClient, args: argparse.Namespace) -> int:
    found = list(records(client, "/adapters"))
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        print_table(_COLUMNS, map(_row, found))
    return 0


def _row(one: Adapter) -> tuple[str, ...]:
    counts = f"{one['loaded']}/{one['wanted']}"
    return (one["id"], one["base"], one["state"], counts, str(one["replicas"]), one["path"])


def _show(client: AdminClient, args: argparse.Namespace) -> int:
    _print(_get(client, args.name), as_json=args.json)
    return 0


def _print(one: Adapter, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(one, indent=2))
        return
    print_table(_COLUMNS, [_row(one)])
    for text in one["drift"]:
        print(f"! {printable(text)}")
    if one["endpoints"]:
        print()
        print_table(_ENGINES, [tuple(str(engine.get(name, "")) for name in _ENGINES) for engine in one["endpoints"]])


def _load(client: AdminClient, args: argparse.Namespace) -> int:
    body: Adapter = {"path": args.path, "base": args.base, "replicas": _replicas(args.replicas)}
    body |= {name: True for name in ("pinned", "lazy", "replace") if getattr(args, name)}
    body["placement"] = dict(label("--placement", text) for text in args.placement)
    made = _put(client, args.name, body)
    if args.lazy or args.no_wait:
        _print(made, as_json=args.json)
        return 0
    found, code = _followed(client, [args.name], args)
    _print(found[0], as_json=args.json)
    return code


def _unload(client: AdminClient, args: argparse.Namespace) -> int:
    ask(client, "DELETE", _path(args.name))
    if args.no_wait:
        return 0
    if _gone(client, args.name, args.timeout):
        return 0
    print(
        f"aibrix-extproc: after {args.timeout:g} s an engine still has it: `adapters show` says which", file=sys.stderr
    )
    return EXIT_FAILED


def _sync(client: AdminClient, args: argparse.Namespace) -> int:
    wanted = _read(args.file)
    before = {one["id"]: one for one in records(client, "/adapters")}
    changed = [name for name, body in wanted.items() if name not in before or _differs(before[name], body)]
    removed = [name for name, one in before.items() if name not in wanted and not one["source"]] if args.prune else []
    for name in changed:
        _put(client, name, {**wanted[name], "replace": True})
    for name in removed:
        ask(client, "DELETE", _path(name))
    if not args.json:
        print(f"{len(changed)} changed, {len(removed)} removed, {len(wanted) - len(changed)} as they were")
    names = [name for name in wanted if not wanted[name].get("lazy")]
    found, code = ([_get(client, name) for name in names], 0) if args.no_wait else _followed(client, names, args)
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        print_table(_COLUMNS, map(_row, found))
    if args.no_wait:
        return 0
    gone = all(_gone(client, name, args.timeout) for name in removed)
    return code if gone else EXIT_FAILED


def _read(path: Path) -> dict[str, Adapter]:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE_BYTES + 1)
        if len(text) > MAX_FILE_BYTES:
            raise UsageError(f"{path} has more than {MAX_FILE_BYTES} bytes")
        rows = json.loads(text)["adapters"]
        found = {str(row["name"]): {key: value for key, value in row.items() if key != "name"} for row in rows}
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f'{path} must be JSON like {{"adapters": [{{"name": "sql", "path": "...", ...}}]}}') from error
    if len(found) != len(rows):
        raise UsageError(f"{path} has two adapters of one name")
    return found


def _differs(before: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    defaults = {"replicas": "all", "placement": {}, "pinned": False, "lazy": False}
    return any(before[name] != wanted.get(name, defaults.get(name)) for name in _FIELDS)


def _replicas(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() else text


# ---------------------------------------------------------------------------------------------------- the interface


def _path(name: str) -> str:
    if any(not part.strip(".") for part in name.split("/")):  # a client of HTTP would leave them out: another path
        raise UsageError(f"no adapter has the name {name!r}")
    return f"/adapters/{quote(name, safe='/')}"


def _get(client: AdminClient, name: str) -> Adapter:
    found: Adapter = ask(client, "GET", _path(name))
    return found


def _put(client: AdminClient, name: str, body: Adapter) -> Adapter:
    found: Adapter = ask(client, "PUT", _path(name), body)
    return found


# ----------------------------------------------------------------------------------------------------- progress


def _followed(client: AdminClient, names: list[str], args: argparse.Namespace) -> tuple[list[Adapter], int]:
    """Wait until all are loaded, and the exit code; the first failure of an engine ends the wait, as it may last."""
    ends_at = time.monotonic() + args.timeout
    shown = ""
    while True:
        found = [_get(client, name) for name in names]
        states = {one["state"] for one in found}
        line = ", ".join(f"{one['id']}: {one['state']} {one['loaded']}/{one['wanted']}" for one in found[:5])
        if line != shown and sys.stderr.isatty():
            print(f"\r\x1b[K{printable(line)}", end="", file=sys.stderr, flush=True)
        shown = line
        if states <= {"loaded"} or "failed" in states or time.monotonic() > ends_at:
            break
        time.sleep(LOOK_SECONDS)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return found, 0 if states <= {"loaded"} else EXIT_FAILED


def _gone(client: AdminClient, name: str, seconds: float) -> bool:
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        try:
            _get(client, name)
        except AdminError as error:
            if error.status != 404:
                raise
            return True
        time.sleep(LOOK_SECONDS)
    return False
