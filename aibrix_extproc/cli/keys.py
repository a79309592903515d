"""`aibrix-extproc keys`: make, list, revoke and check keys, of a key file or (`--base-url`) of a metadata service.

A key is printed once, when it is made; only its hash is kept. Running gateways follow by themselves. The verb
`note-secret` is about another key, which gateways and metadata services share.
"""

import argparse
import json
import re
import secrets
import sys
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from aibrix_extproc.adapters.keyfile.edit import EditedByHandError
from aibrix_extproc.adapters.keyfile.parse import parse_bounded, parse_moment, parse_name, parse_operation
from aibrix_extproc.adapters.keyfile.source import read_keys
from aibrix_extproc.adapters.keyfile.store import add_key, remove_key
from aibrix_extproc.cli import keys_api, note_secret
from aibrix_extproc.cli.admin_client import AdminError
from aibrix_extproc.cli.connection import LOCAL, UsageError, add_key_options
from aibrix_extproc.cli.sdk_command import printable
from aibrix_extproc.config_files.errors import SourceError
from aibrix_extproc.core.access.holders import IssuedKey, KeyHolder, digest_of
from aibrix_extproc.core.access.keys import KeyRing
from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.contract.operations import Role
from aibrix_extproc.core.placing import Caller

EXIT_NO: Final = 1  # no such key, or one that is not accepted
EXIT_USAGE: Final = 2  # the file or an option is wrong

VerbRun = Callable[[argparse.Namespace], int]

KEY_PREFIX: Final = "sk-"
_KEY_BYTES: Final = 36  # 48 characters
_PERIOD: Final = re.compile(r"(\d{1,5})([hdw])")
_UNITS: Final = {"h": "hours", "d": "days", "w": "weeks"}
_COLUMNS: Final = ("caller", "id", "state", "created", "expires", "models", "operations", "rights", "note")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One subcommand per verb."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    new = _verb(verbs, "new", _new, "make a key, print it once, and keep its hash", keys_api.new)
    new.add_argument("--caller", required=True, metavar="NAME", type=_checked(parse_name), help="who gets the key")
    _add_list(new, "--models", "MODEL", parse_bounded, "models a new caller may use, as patterns: chat-*,org/*")
    _add_list(new, "--operations", "ID", parse_operation, "operations a new caller may use: chat_completion,embedding")
    _add_list(new, "--adapters", "ADAPTER", parse_bounded, "LoRA adapters that a new operator may change, as patterns")
    new.add_argument("--role", choices=[role.value for role in Role], default=None, help="what a new caller is (user)")
    new.add_argument("--admin", action="store_true", help="the same as --role admin")
    new.add_argument("--engine-controls", action="store_true", help="a new caller may send headers that engines obey")
    new.add_argument("--expires", metavar="WHEN", type=_expiry, help="after 12h, 90d or 8w, or at a date or time")
    new.add_argument("--note", metavar="TEXT", type=_checked(parse_bounded), help="what the key is for")
    listed = _verb(verbs, "list", _list, "show callers and keys", keys_api.show)
    listed.add_argument("--json", action="store_true", help="print JSON")
    revoke = _verb(verbs, "revoke", _revoke, "take a key away", keys_api.revoke)
    revoke.add_argument("id", metavar="ID", help="as `keys list` shows it")
    check = _verb(verbs, "check", _check, "say whether the file is good, or whom a key lets in")
    rotate = _verb(verbs, "rotate", None, "make a key that replaces another, with an overlap", keys_api.rotate)
    rotate.add_argument("id", metavar="ID", help="as `keys list` shows it")
    rotate.add_argument("--overlap", metavar="TIME", type=_overlap, default=86_400.0,
        help="how long both are good: 0h, 12h, 1d or 2w (1d)")  # fmt: skip
    imported = _verb(verbs, "import", None, "take over callers, keys and limits of another gateway", keys_api.take_over)
    imported.add_argument("--from", required=True, choices=sorted(keys_api.SOURCES), help="whose records these are")
    imported.add_argument("source", metavar="FILE", help="JSON objects, one a line or in an array; -: standard input")
    imported.add_argument("--dry-run", action="store_true", help="show what would be made, and make nothing")
    check.add_argument("--key", metavar="KEY", help="a key to look up; - reads it from standard input")
    note_secret.add_verb(verbs)


def run(args: argparse.Namespace) -> int:
    """0: done, or good; 1: no such key, or one that is not accepted; 2: the file, an option or the cluster is wrong."""
    try:
        return int(_runner(args)(args))
    except (SourceError, UsageError) as error:
        print(f"aibrix-extproc: {error}", file=sys.stderr)
        return EXIT_USAGE
    except AdminError as error:
        print(f"aibrix-extproc: {printable(str(error))}", file=sys.stderr)
        return EXIT_NO


def _runner(args: argparse.Namespace) -> VerbRun:
    """The verb for where the keys are. Raises UsageError."""
    if args.verb_alone is not None:
        alone: VerbRun = args.verb_alone
        return alone
    if args.file is not None and args.base_url is not None:
        raise UsageError("--file and --base-url exclude each other")
    if args.file is not None and args.verb_run is not None:
        run: VerbRun = args.verb_run
    elif args.base_url is not None and args.verb_api is not None:
        run = args.verb_api
    elif args.verb_api is None:
        raise UsageError("this verb needs --file FILE")
    elif args.verb_run is None:
        raise UsageError(f"this verb needs --base-url URL of a metadata service's gateway, such as {LOCAL}")
    else:
        raise UsageError(f"name where the keys are: --file FILE, or --base-url URL, such as {LOCAL}")
    return run


def _verb(
    verbs: Any, name: str, verb_run: VerbRun | None, summary: str, verb_api: VerbRun | None = None
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=summary, description=f"{summary.capitalize()}.")
    parser.set_defaults(verb_run=verb_run, verb_api=verb_api, verb_alone=None, file=None, base_url=None)
    if verb_run is not None:
        parser.add_argument("--file", type=Path, metavar="FILE", help="the key file (YAML)")
    if verb_api is not None:
        parser.add_argument(
            "--base-url", metavar="URL", default=None, help="of a gateway with a metadata service, which keeps the keys"
        )
        add_key_options(parser)
    return parser


def _add_list(parser: argparse.ArgumentParser, flag: str, metavar: str, read: Callable[[str], str], text: str) -> None:
    def values(given: str) -> list[str]:
        return [_checked(read)(value.strip()) for value in given.split(",")]

    parser.add_argument(flag, action="extend", metavar=f"{metavar},...", type=values, help=f"{text} (default: all)")


def _checked(read: Callable[[str], str]) -> Callable[[str], str]:
    """The rules of the file as checks of argparse."""

    def value(text: str) -> str:
        if not text.strip():
            raise argparse.ArgumentTypeError("is empty")
        try:
            return read(text)
        except SourceError as error:
            raise argparse.ArgumentTypeError(f"{text!r}: {error}") from error

    return value


def _expiry(text: str) -> datetime:
    period = _PERIOD.fullmatch(text)
    try:
        if period is not None:
            return datetime.now(UTC).replace(microsecond=0) + timedelta(**{_UNITS[period[2]]: int(period[1])})
        moment = parse_moment(text).replace(microsecond=0)
    except (SourceError, OverflowError) as error:
        raise argparse.ArgumentTypeError(f"{text!r}: write 12h, 90d, 8w, a date or a time with its zone") from error
    if moment <= datetime.now(UTC):
        raise argparse.ArgumentTypeError(f"{text!r} is over already")
    return moment


def _overlap(text: str) -> float:
    period = _PERIOD.fullmatch(text)
    if period is None:
        raise argparse.ArgumentTypeError(f"{text!r}: write 0h, 12h, 1d or 2w")
    return timedelta(**{_UNITS[period[2]]: int(period[1])}).total_seconds()


def _new(args: argparse.Namespace) -> int:
    key = KEY_PREFIX + secrets.token_urlsafe(_KEY_BYTES)
    digest = digest_of(key)
    caller = Caller(
        name=args.caller,
        models=tuple(args.models) if args.models else None,
        operations=frozenset(args.operations) if args.operations else None,
        role=Role.ADMIN if args.admin else Role(args.role or Role.USER),
        adapters=tuple(args.adapters) if args.adapters else None,
        engine_controls=args.engine_controls,
    )

    def make(key_id: str) -> IssuedKey:
        expires = args.expires.timestamp() if args.expires else None
        return IssuedKey(key_id, digest, datetime.now(UTC).date().isoformat(), expires, args.note or "")

    try:
        holder = add_key(args.file, caller, digest, make)
    except EditedByHandError as error:
        print(key)  # without it the lines would be of no use
        print(f"aibrix-extproc: {error}\nThe key works once they are there. It is not shown again.", file=sys.stderr)
        return EXIT_USAGE
    print(key)  # alone on standard output, for scripts
    print(
        f"The key is not shown again; {args.file} keeps its hash, and a running gateway takes it in a second.",
        file=sys.stderr,
    )
    if holder.disabled:
        print(f"{args.caller} is disabled in the file: the key lets nobody in until that changes.", file=sys.stderr)
    return 0


def _list(args: argparse.Namespace) -> int:
    rows = [row for holder in read_keys(args.file) for row in _rows(holder, time.time())]
    if args.json:
        print(json.dumps(rows, indent=2))
        return 0
    table = [tuple(name.upper() for name in _COLUMNS)]
    table += [tuple(_shown(row[name]) for name in _COLUMNS) for row in rows]
    widths = [max(len(line[column]) for line in table) for column in range(len(_COLUMNS))]
    for line in table:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())
    return 0


def _rows(holder: KeyHolder, wall_now: float) -> Iterable[dict[str, object]]:
    """A row for each key; one for a caller without keys, too."""
    caller = holder.caller
    rights = [] if caller.role is Role.USER else [caller.role.value]
    rights += ["engine_controls"] if caller.engine_controls else []
    shared = {
        "models": caller.models,
        "operations": None if caller.operations is None else sorted(caller.operations),
        "rights": rights,
        "labels": dict(caller.labels),
    }
    if not holder.keys:
        nothing = dict.fromkeys(_COLUMNS)
        yield nothing | {"caller": caller.name, "state": "disabled" if holder.disabled else "no keys"} | shared
    for key in holder.keys:
        yield {
            "caller": caller.name,
            "id": key.id,
            "state": _state(holder, key, wall_now),
            "created": key.created or None,
            "expires": _when(key.wall_expires_at),
            **shared,
            "note": key.note or None,
        }


def _state(holder: KeyHolder, key: IssuedKey, wall_now: float) -> str:
    if holder.disabled or key.disabled:
        return "disabled"
    return "expired" if key.is_expired(wall_now) else "active"


def _when(wall_at: float | None) -> str | None:
    return None if wall_at is None else datetime.fromtimestamp(wall_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _shown(value: object) -> str:
    if isinstance(value, list | tuple):
        return ",".join(value) or "-"
    return "-" if value is None else str(value)


def _revoke(args: argparse.Namespace) -> int:
    holders = read_keys(args.file)
    if not any(key.id == args.id for holder in holders for key in holder.keys):
        print(f"aibrix-extproc: {args.file}: there is no key with the id {args.id}", file=sys.stderr)
        return EXIT_NO
    holder = remove_key(args.file, args.id)
    print(f"{args.id} of {holder.caller.name} is revoked; a running gateway refuses it in a second.")
    return 0


def _check(args: argparse.Namespace) -> int:
    holders = read_keys(args.file)
    if args.key is None:
        keys = sum(len(holder.keys) for holder in holders)
        print(f"{args.file} is good (callers: {len(holders)}, keys: {keys})")
        return 0
    key = sys.stdin.readline().strip() if args.key == "-" else args.key
    answer = KeyRing(holders).authenticate(f"Bearer {key}", None, time.time())
    found = next(
        ((holder, one) for holder in holders for one in holder.keys if one.digest == digest_of(key)), (None, None)
    )
    return _describe(answer, *found)


def _describe(answer: Caller | Problem, holder: KeyHolder | None, key: IssuedKey | None) -> int:
    if holder is None or key is None:
        print("unknown: this key lets nobody in")
        return EXIT_NO
    caller = holder.caller
    print(f"caller:      {caller.name}\nid:          {key.id}\nstate:       {_state(holder, key, time.time())}")
    (row,) = _rows(KeyHolder(caller, (key,), holder.disabled), time.time())
    print(f"expires:     {row['expires'] or 'never'}")
    for name in ("models", "operations"):
        print(f"{name + ':':<12} {'all' if row[name] is None else _shown(row[name])}")
    print(f"rights:      {_shown(row['rights'])}")
    return EXIT_NO if isinstance(answer, Problem) else 0
