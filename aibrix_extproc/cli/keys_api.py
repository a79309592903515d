"""`aibrix-extproc keys` with `--base-url`: the same verbs over the admin API of a metadata service, and more."""

import argparse
import json
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from aibrix_extproc.cli.admin_client import ONLY_NEW, AdminClient, AdminError, admin_client, segment
from aibrix_extproc.cli.sdk_command import print_table, printable
from aibrix_extproc.core.access.imports import ImportPlan, from_aibrix, from_litellm, lines

SOURCES: Final = {"litellm-db": from_litellm, "aibrix-redis": from_aibrix}
_KEYS: Final = "/admin/v1/keys"
_CALLERS: Final = "/admin/v1/callers"
_LIMITS: Final = "/admin/v1/limits"
_COLUMNS: Final = ("caller", "id", "state", "created", "expires", "key", "note")


def new(args: argparse.Namespace) -> int:
    """Make a key, and its caller if there is none."""
    client = admin_client(args)
    caller: dict[str, Any] = {"name": args.caller}
    for name in ("models", "operations", "adapters"):
        if getattr(args, name):
            caller[name] = getattr(args, name)
    role = "admin" if args.admin else args.role
    caller |= ({"role": role} if role else {}) | ({"engine_controls": True} if args.engine_controls else {})
    _make_caller(client, caller)
    body: dict[str, Any] = {"caller": args.caller} | ({"note": args.note} if args.note else {})
    if args.expires:
        body["expires_at"] = args.expires.timestamp()
    made = client.ask("POST", _KEYS, body)
    print(made["key"])  # alone on standard output, for scripts
    print(f"The key {made['id']} is not shown again; every gateway takes it in a second.", file=sys.stderr)
    return 0


def _make_caller(client: AdminClient, caller: Mapping[str, Any]) -> None:
    """Raises AdminError if there is one with other permissions."""
    try:
        client.ask("POST", _CALLERS, caller)
    except AdminError as error:
        if error.code != "exists_already":
            raise
        found = client.ask("GET", f"{_CALLERS}/{segment(caller['name'])}")
        if any(found[name] != value for name, value in caller.items() if name != "note"):
            raise AdminError(
                f"{caller['name']} is there already with other permissions; leave the options out to add a key"
            ) from error


def show(args: argparse.Namespace) -> int:
    """List keys."""
    found = list(admin_client(args).pages(_KEYS))
    if args.json:
        print(json.dumps(found, indent=2))
        return 0
    rows = [
        (
            one["caller"], one["id"], _state(one), _date(one["created_at"]), _date(one["expires_at"]),
            one["hint"] or "-", one["note"] or "-",
        )
        for one in found
    ]  # fmt: skip
    print_table([name.upper() for name in _COLUMNS], rows)
    return 0


def revoke(args: argparse.Namespace) -> int:
    """Remove a key."""
    admin_client(args).ask("DELETE", f"{_KEYS}/{segment(args.id)}")
    print(f"{args.id} is revoked; every gateway that follows the metadata service refuses it in a second.")
    return 0


def rotate(args: argparse.Namespace) -> int:
    """Make a key that replaces another."""
    body = {"overlap_seconds": args.overlap}
    made = admin_client(args).ask("POST", f"{_KEYS}/{segment(args.id)}/rotate", body)
    print(made["key"])
    end = _date(made["replaced_expires_at"])
    print(f"The key {made['id']} is not shown again; {args.id} is good until {end}.", file=sys.stderr)
    return 0


def take_over(args: argparse.Namespace) -> int:
    """Import the records of another gateway; with `--dry-run` only show what would be made."""
    try:
        records = _records(args.source)
    except (OSError, ValueError) as error:
        print(f"aibrix-extproc: {args.source} cannot be read: {error}", file=sys.stderr)
        return 2
    plan = SOURCES[getattr(args, "from")](records)
    for line in lines(plan):
        print(printable(line))
    if args.dry_run:
        print(f"Nothing was changed: {_summary(plan)} would be made.")
        return 0
    client = admin_client(args)
    there = sum(_put(client, path, body) for path, body in _bodies(plan))
    print(f"{_summary(plan)}; {there} were there already and stay as they are.")
    return 0


def _bodies(plan: ImportPlan) -> list[tuple[str, dict[str, Any]]]:
    """In the order in which each needs those before it; a limit is there before its key is good."""
    keys = [(_KEYS, _with_end(one)) for one in plan.keys]
    return [*((_CALLERS, one) for one in plan.callers), *((_LIMITS, one) for one in plan.limits), *keys]


def _with_end(key: Mapping[str, Any]) -> dict[str, Any]:
    body = {name: value for name, value in key.items() if name != "expires"}
    if "expires" in key:
        moment = datetime.fromisoformat(key["expires"])
        body["expires_at"] = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        if body["expires_at"] <= time.time():
            del body["expires_at"]
            body["disabled"] = True  # its time is over
    return body


def _put(client: AdminClient, path: str, body: dict[str, Any]) -> bool:
    """Whether it was there already."""
    try:
        client.ask("POST", path, body, ONLY_NEW)  # an administrator may have changed it
    except AdminError as error:
        if error.code != "exists_already":
            raise
        return True
    return False


def _records(path: str) -> list[dict[str, Any]]:
    """JSON objects, one a line, or one array of them; - is standard input. Raises OSError and ValueError."""
    with open(path, encoding="utf-8") if path != "-" else sys.stdin as file:
        text = file.read()
    found = json.loads(text) if text.lstrip().startswith("[") else [json.loads(one) for one in text.splitlines() if one]
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise ValueError("expected JSON objects, one a line or in an array")
    return found


def _summary(plan: ImportPlan) -> str:
    return f"{len(plan.callers)} callers, {len(plan.keys)} keys, {len(plan.limits)} limits"


def _state(key: Mapping[str, Any]) -> str:
    if key["disabled"]:
        return "disabled"
    return "expired" if key["expires_at"] is not None and key["expires_at"] <= time.time() else "active"


def _date(seconds: float | None) -> str:
    return "-" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
