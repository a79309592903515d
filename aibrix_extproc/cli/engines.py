"""`aibrix-extproc engines`: the engines of the fleet, and operations over them, drained first and verified."""

import argparse
import json
import sys
import time
from collections.abc import Mapping
from typing import Any, Final

from aibrix_extproc.cli.admin_client import AdminClient
from aibrix_extproc.cli.connection import UsageError
from aibrix_extproc.cli.engine_api import ask, followed, print_states, records, run_verb
from aibrix_extproc.cli.operations import print_ended
from aibrix_extproc.cli.sdk_command import EXIT_FAILED, add_verb, label
from aibrix_extproc.core.operations.records import RunSpec, Target

_COLUMNS: Final = ("endpoint", "state", "name", "models", "weights", "detail")
_LOOK_SECONDS: Final = 0.5
_DEFAULTS: Final = RunSpec((), Target())
_ONE_ENDPOINT: Final = "its identity, HOST:PORT or name, as `engines list` shows them"
# Verb -> the operation that it asks for, and what it says of itself.
_OPERATIONS: Final[Mapping[str, tuple[str, str]]] = {
    "sleep": ("sleep", "put engines to sleep, one after the other"),
    "wake": ("wake_up", "wake engines"),
    "pause": ("pause", "pause engines, one after the other"),
    "resume": ("resume", "let paused engines go on"),
    "reset-cache": ("reset_prefix_cache", "forget cached prefixes"),
    "update-weights": ("rolling_weight_update", "update weights, one engine after the other"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One subcommand per verb."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    listed = add_verb(verbs, "list", _list, "show the engines of the fleet")
    listed.add_argument("--model", metavar="NAME", help="only engines that serve this model or adapter")
    show = add_verb(verbs, "show", _show, "show one engine and its labels")
    show.add_argument("endpoint", metavar="ENDPOINT", help=_ONE_ENDPOINT)
    for name, run, what in (
        ("cordon", _cordon, "keep new requests away from an endpoint"),
        ("drain", _drain, "cordon an endpoint and wait until its requests have ended"),
    ):
        verb = add_verb(verbs, name, run, what)
        verb.add_argument("endpoint", metavar="ENDPOINT", help=_ONE_ENDPOINT)
        verb.add_argument("--reason", default="", metavar="TEXT", help="a note that is shown with the cordon")
        verb.add_argument(
            "--expires-in", type=float, metavar="SECONDS", help="the cordon ends after this time (never if not given)"
        )
        if run is _drain:
            verb.add_argument(
                "--wait", type=float, default=300.0, metavar="SECONDS", help="wait at most so long (%(default)g)"
            )
    uncordon = add_verb(verbs, "uncordon", _uncordon, "let an endpoint have requests again")
    uncordon.add_argument(
        "endpoint", metavar="ENDPOINT", help="as the cordon names it, or its identity, HOST:PORT or name"
    )
    for name, (_, what) in _OPERATIONS.items():
        verb = add_verb(verbs, name, _operate, what)
        _add_target_options(verb)
        _add_run_options(verb)
        _add_parameters(verb, name)
    for verb in verbs.choices.values():
        verb.add_argument("--json", action="store_true", help="print JSON")


def _add_target_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("endpoints", nargs="*", metavar="ENDPOINT", help="identities, HOST:PORT or names")
    verb.add_argument("--model", metavar="NAME", help="engines that serve this model or adapter")
    verb.add_argument(
        "--label", action="append", default=[], metavar="KEY=VALUE", help="engines with this label, repeatable"
    )


def _add_run_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--order", choices=("rolling", "all"),
        help=f"rolling: one after the other; all: as many at once as --keep-available lets ({_DEFAULTS.order})",
    )  # fmt: skip
    verb.add_argument(
        "--max-unavailable",
        type=int,
        metavar="N",
        help=f"engines at once in rolling order ({_DEFAULTS.max_unavailable})",
    )
    verb.add_argument(
        "--keep-available", type=int, metavar="N",
        help=f"engines of each model that stay available ({_DEFAULTS.keep_available})",
    )  # fmt: skip
    for name, what, seconds in (
        ("--drain", "wait at most so long for running requests", _DEFAULTS.drain_seconds),
        ("--timeout", "begin no further engine after this time", _DEFAULTS.timeout_seconds),
        ("--call-timeout", "the longest that one call to an engine may take", _DEFAULTS.call_seconds),
    ):
        verb.add_argument(name, type=float, metavar="SECONDS", help=f"{what} ({seconds:g})")
    verb.add_argument("--force", action="store_true", help="also where no engine of a model stays available")
    verb.add_argument("--no-wait", action="store_true", help="print the operation's ID, and do not wait for its end")
    verb.add_argument(
        "--idempotency-key", metavar="TEXT", help="sent again with the same key, the command starts no second operation"
    )


def _add_parameters(verb: argparse.ArgumentParser, name: str) -> None:
    """The parameters of the operation itself."""
    if name == "sleep":
        verb.add_argument(
            "--level", type=int, choices=(0, 1, 2),
            help="vLLM's: 0 only stops scheduling, 1 moves the weights to the host's memory, 2 drops them (1)",
        )  # fmt: skip
        verb.add_argument("--then-wake", action="store_true", help="wake each engine before the next one")
    if name in ("sleep", "pause"):
        verb.add_argument(
            "--mode", choices=("wait", "abort", "keep"),
            help="requests that still run: wait for their ends, abort them, or keep them for later (wait)",
        )  # fmt: skip
    if name == "update-weights":
        verb.add_argument("--version", required=True, metavar="TEXT", help="the name of the new weights")
        verb.add_argument(
            "--update", action="append", default=[], metavar="JSON",
            help="update_info for the engine's weight transfer, repeatable; without it only the name changes",
        )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """0: done; 1: the operation did not succeed, or the API refused; 2: wrong options."""
    return run_verb(args)


def _list(client: AdminClient, args: argparse.Namespace) -> int:
    found = ask(client, "GET", "/engines")["data"]
    if args.model:
        found = [one for one in found if any(model["id"] == args.model for model in one["models"])]
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        print_states(_COLUMNS, [_row(one) for one in found], 1)
    return 0


def _row(engine: Any) -> tuple[str, ...]:
    state = f"cordoned, {engine['health']}" if engine["cordoned"] else engine["health"]
    models = ", ".join(model["id"] for model in engine["models"]) or "-"
    return (engine["address"], state, engine["name"] or "-", models, engine["weight_version"] or "-", engine["detail"])


def _show(client: AdminClient, args: argparse.Namespace) -> int:
    engine = _engine(client, args.endpoint)
    if args.json:
        print(json.dumps(engine, indent=2))
        return 0
    print_states(_COLUMNS, [_row(engine)], 1)
    for key, value in sorted(engine["labels"].items()):
        print(f"label {key}={value}")
    return 0


def _engine(client: AdminClient, name: str) -> Any:
    for one in ask(client, "GET", "/engines")["data"]:
        if name in (one["id"], one["address"], one["name"]):
            return one
    raise UsageError(f"no engine of the fleet has the identity, address or name {name!r}")


def _cordon(client: AdminClient, args: argparse.Namespace) -> int:
    engine = _engine(client, args.endpoint)
    made = _make_cordon(client, engine, args)
    print(json.dumps(made, indent=2) if args.json else f"{engine['address']} is cordoned")
    return 0


def _make_cordon(client: AdminClient, engine: Any, args: argparse.Namespace) -> Any:
    body = {"endpoint": engine["id"], "reason": args.reason}
    if args.expires_in is not None:
        body["expires_in"] = args.expires_in
    return ask(client, "POST", "/cordons", body)


def _drain(client: AdminClient, args: argparse.Namespace) -> int:
    engine = _engine(client, args.endpoint)
    if not engine["cordoned"]:
        _make_cordon(client, engine, args)
    print(f"{args.endpoint} is cordoned, and stays so after Ctrl-C; waiting for its requests", file=sys.stderr)
    ends_at = time.monotonic() + args.wait
    while True:
        engine = _engine(client, args.endpoint)
        drain = engine["drain"] or {"complete": False, "in_flight": 0}
        if drain["complete"] or time.monotonic() >= ends_at:
            break
        time.sleep(_LOOK_SECONDS)
    if args.json:
        print(json.dumps(engine, indent=2))
    state = "is drained" if drain["complete"] else f"still has {drain['in_flight']} requests"
    print(f"{args.endpoint} {state}", file=sys.stderr)
    return 0 if drain["complete"] else EXIT_FAILED


def _uncordon(client: AdminClient, args: argparse.Namespace) -> int:
    names = {args.endpoint}  # an endpoint that has left the fleet may come back: its cordon can be ended
    for engine in ask(client, "GET", "/engines")["data"]:
        same = {engine["id"], engine["address"], engine["name"]}
        names |= same if args.endpoint in same else set()
    names.discard("")
    found = [one for one in records(client, "/cordons") if {one["endpoint"], one["pod"]} & names]
    if not found:
        raise UsageError(f"no cordon names {args.endpoint}; see GET /admin/v1/cordons for those by label")
    for one in found:
        ask(client, "DELETE", f"/cordons/{one['id']}")
    print(json.dumps(found, indent=2) if args.json else f"{args.endpoint} is not cordoned any more")
    return 0


def _operate(client: AdminClient, args: argparse.Namespace) -> int:
    headers = {"idempotency_key": args.idempotency_key} if args.idempotency_key else {}
    started = ask(client, "POST", "/operations", _body(args), **headers)
    if args.no_wait:
        print(json.dumps(started, indent=2) if args.json else started["id"])
        return 0
    print(
        f"Ctrl-C leaves it running; `aibrix-extproc operations follow {started['id']}` follows it again",
        file=sys.stderr,
    )
    return print_ended(followed(client, started), as_json=args.json)


def _body(args: argparse.Namespace) -> dict[str, Any]:
    """The request of a verb; what is not given is left to the service."""
    labels = dict(label("--label", text) for text in args.label)
    target = {"model": args.model, "endpoints": args.endpoints or None, "labels": labels or None}
    body: dict[str, Any] = {
        "operation": _OPERATIONS[args.verb][0], "params": _params(args),
        "target": {name: value for name, value in target.items() if value},
        "order": args.order, "max_unavailable": args.max_unavailable, "keep_available": args.keep_available,
        "timeout": args.timeout, "call_timeout": args.call_timeout, "force": args.force or None,
        "drain": None if args.drain is None else {"seconds": args.drain},
    }  # fmt: skip
    if not body["target"]:
        raise UsageError("say which engines: name endpoints, or give --model or --label")
    if getattr(args, "then_wake", False):
        body["then"] = [{"operation": "wake_up"}]
    return {name: value for name, value in body.items() if value is not None}


def _params(args: argparse.Namespace) -> dict[str, Any]:
    if args.verb == "update-weights":
        try:
            updates = [json.loads(one) for one in args.update]
        except ValueError as error:
            raise UsageError(f"--update is not JSON: {error}") from error
        return {"weight_version": args.version, "updates": updates}
    given = {name: getattr(args, name, None) for name in ("level", "mode")}
    return {name: value for name, value in given.items() if value is not None}
