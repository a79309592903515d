"""`aibrix-extproc explain`: why a request went to its engine, or where one would go now."""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

from aibrix_extproc.cli.admin_port import NoAnswerError, address, ask
from aibrix_extproc.cli.flags import add_settings_arguments, settings_of
from aibrix_extproc.cli.sdk_command import print_table, printable
from aibrix_extproc.core.routing.disaggregation.handover import MEANINGS, PrefillOutcome
from aibrix_extproc.settings import AdminSettings, SettingsError

EXIT_NONE: Final = 1
EXIT_USAGE: Final = 2
SECONDS: Final = 10.0
_NAMED_BY: Final = {
    "setting": "the gateway's setting",
    "header": "the request's header",
    "profile": "the model's profile",
    "locked": "the model's configuration, locked",
    "stored": "the engine holds the stored response",
}
_COMPARED: Final = (("ttft_seconds", "first token after", " s"), ("cached_tokens", "tokens from the cache", ""))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A request that was, or the body of one; and where the gateway's admin server listens."""
    parser.add_argument("request_id", nargs="?", metavar="REQUEST-ID", help="what an answer's x-request-id said")
    parser.add_argument("--body", metavar="FILE", help="dry run: where would this body go now? `-` reads it from stdin")
    parser.add_argument("--path", default="/v1/chat/completions", help="the path of the dry run")
    parser.add_argument(
        "--header", action="append", default=[], metavar="NAME:VALUE", help="a header of the dry run (repeatable)"
    )
    parser.add_argument("--json", action="store_true", help="print the record as JSON")
    add_settings_arguments(parser, groups=("admin",))


def run(args: argparse.Namespace) -> int:
    """0 with a decision, 1 without, 2 if the question cannot be asked."""
    if args.request_id and args.body:
        print("aibrix-extproc: give a REQUEST-ID or --body, not both", file=sys.stderr)
        return EXIT_USAGE
    try:
        admin = settings_of(args).admin
        status, answer = _asked(args, admin)
    except OSError as error:
        print(f"aibrix-extproc: {error.filename} cannot be read: {error.strerror}", file=sys.stderr)
        return EXIT_USAGE
    except (SettingsError, ValueError) as error:
        print(f"aibrix-extproc: {error}", file=sys.stderr)
        return EXIT_USAGE
    except NoAnswerError as error:
        print(f"aibrix-extproc: {error}; see --admin-port", file=sys.stderr)
        return EXIT_NONE
    if status != 200:
        print(f"aibrix-extproc: {_message(answer, status)} (asked {address(admin)})", file=sys.stderr)
        return EXIT_NONE
    page = json.loads(answer)
    if args.json:
        print(json.dumps(page, indent=2))
    elif args.request_id or args.body:
        _print_decision(page)
    else:
        _print_latest(page)
    return 0


def _asked(args: argparse.Namespace, admin: AdminSettings) -> tuple[int, bytes]:
    if args.body:
        body = sys.stdin.buffer.read() if args.body == "-" else Path(args.body).read_bytes()
        headers = {"content-type": "application/json", **dict(map(_header, args.header))}
        path = f"/explain?{urlencode({'path': args.path})}"
        return ask(admin, "POST", path, SECONDS, body=body, headers=headers)
    path = f"/decisions/{quote(args.request_id, safe='')}" if args.request_id else "/decisions"
    return ask(admin, "GET", path, SECONDS)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise ValueError(f"--header {text!r} is not of the form NAME:VALUE")
    return name.strip().lower(), value.strip()


def _message(answer: bytes, status: int) -> str:
    try:
        return printable(str(json.loads(answer)["error"]["message"]))
    except (ValueError, KeyError, TypeError):
        return f"HTTP {status}, is it the admin port of a gateway?"


def _print_latest(page: Mapping[str, Any]) -> None:
    names = ("at", "request_id", "model", "strategy", "served_by", "status", "outcome")
    rows = [[_clock(one["at"]), *(printable(str(one[name])) for name in names[1:])] for one in page["decisions"]]
    print_table(names, rows)
    print(f"{page['kept']} decisions are kept; `explain REQUEST-ID` shows one")


def _print_decision(page: Mapping[str, Any]) -> None:
    for line in _sentences(page):
        print(printable(line))
    names, rows = _table(page)
    print_table(names, rows)


def _sentences(page: Mapping[str, Any]) -> Iterator[str]:
    ended = f"{page['outcome']} {page['status'] or ''}".rstrip()
    yield f"{page['request_id']}  model {page['model']}  {_clock(page['at'])}  {ended}"
    chosen = page["served_by"] or page["candidates"][0]
    named_by = _NAMED_BY.get(page["named_by"], page["named_by"])
    yield f"{chosen}: the choice of {page['strategy']} ({named_by}) among {page['eligible']} that could take it"
    if page["served_by"] and page["served_by"] != page["candidates"][0]:
        yield f"  {page['candidates'][0]} was first; Envoy's retry went on to this one"
    for one in page["degraded"]:
        yield f"  degraded: {one['strategy']}, {one['reason']}"
    if page["queue_seconds"]:
        yield f"  waited {page['queue_seconds']:.3f} s to be placed"
    if page["head_seconds"] is not None:
        yield f"  the answer began {page['head_seconds']:.3f} s after placement"
    if page.get("prefill") is not None:
        yield from _prefill(page["prefill"])
    for name, label, unit in _COMPARED:
        real, predicted = page[name], page[f"predicted_{name}"]
        if real is not None or predicted is not None:
            yield f"  {label}: {_number(real, unit)}, predicted {_number(predicted, unit)}"


def _prefill(prefill: Mapping[str, Any]) -> Iterator[str]:
    """Sentences about the engine that computed the prompt, and the reason."""
    outcome = prefill["outcome"]
    yield f"  prefill: {outcome}{_meaning(outcome)}"
    first, predicted = next(iter(prefill["engines"]), None), _number(prefill["predicted_seconds"], " s")
    if prefill["engine"]:
        yield f"    by {prefill['engine']}: {_number(prefill['seconds'], ' s')}, predicted {predicted}"
        real, predicted = _number(prefill["cached_tokens"]), _number(prefill["predicted_cached_tokens"])
        yield f"    tokens from its cache: {real}, predicted {predicted}"
    elif first:
        yield f"    the first choice of the prefill engines: {first}, predicted {predicted}"
    for one in prefill.get("failures", ()):
        yield f"    {one['engine']} failed: {one['reason']}"


def _meaning(outcome: str) -> str:
    """Of an outcome that this version knows."""
    return f": {MEANINGS[PrefillOutcome(outcome)]}" if outcome in set(PrefillOutcome) else ""


def _table(page: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The endpoints with their values, candidates first."""
    columns = {f"{one['strategy']} x{one['weight']}": one["scores"] for one in page["scores"]} | page["details"]
    order = {address: place for place, address in enumerate(page["candidates"], start=1)}
    rows = [
        [str(order.get(one, "")), one, *(_number(values[place]) for values in columns.values())]
        for place, one in enumerate(page["endpoints"])
    ]
    rows.sort(key=lambda row: int(row[0]) if row[0] else len(order) + 1)
    return ["rank", "endpoint", *columns], rows


def _number(value: float | None, unit: str = "") -> str:
    return "-" if value is None else f"{value:.6g}{unit}"


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
