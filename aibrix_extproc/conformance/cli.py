"""`aibrix-extproc conformance`: arguments in, exit code out. 0: no case failed; 1: one did; 2: none could be asked."""

import argparse
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final, TextIO

from aibrix_extproc.conformance import files, sdk
from aibrix_extproc.conformance.case import Case, Need, Verdict
from aibrix_extproc.conformance.fields import field_cases
from aibrix_extproc.conformance.page import read_reports, side_by_side
from aibrix_extproc.conformance.probe import look
from aibrix_extproc.conformance.run import Run
from aibrix_extproc.conformance.screen import Screen
from aibrix_extproc.conformance.table import GROUPS, chosen
from aibrix_extproc.conformance.target import OPTION, Target, UsageError, origin_of

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
MOST_SECONDS: Final = 1e6
_WRITERS: Final = {"html": files.write_html, "json": files.write_json, "junit": files.write_junit}
_FILES: Final = {"html": "conformance.html", "json": "conformance.json", "junit": "conformance.xml"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.formatter_class = argparse.HelpFormatter
    add = parser.add_argument_group("deployment").add_argument
    add("--base-url", metavar="URL", help="what SDKs are given, as in http://127.0.0.1:8080/v1")
    add("--api-key", metavar="KEY", help="a valid key; none if the deployment asks for none")
    add(
        "--api-key-file",
        type=Path,
        metavar="FILE",
        help="read the key from this file, so that no process list shows it",
    )
    add("--forbidden-key", metavar="KEY", help="a valid key that may not use the chat model, for AUTH-07")
    add(
        "--limited-key",
        metavar="KEY",
        help="a valid key with at most 1,000 requests a minute, for LIM-01 and LIM-02",
    )
    add("--admin-key", metavar="KEY", help="a key that may operate engines; its cases put them to sleep for a moment")
    add("--admin-key-file", type=Path, metavar="FILE", help="read that key from this file")
    add("--lora-path", metavar="PATH", help="an adapter of the chat model on the engines' machines, to load")
    for need, option in OPTION.items():
        add(option, metavar="MODEL", help=f"the {need} to ask (the first that is listed and works)")
    add("--context-length", type=_positive, metavar="TOKENS",
        help="of the chat model (what the models list says)")  # fmt: skip
    add("--insecure", action="store_true", help="take any TLS certificate")

    add = parser.add_argument_group("cases").add_argument
    add("--select", type=_words, action="extend", metavar="GROUPS", default=[],
        help=f"only these groups, separated by commas: {', '.join(GROUPS)}")  # fmt: skip
    add("--only", type=_words, action="extend", metavar="IDS", default=[], help="only these cases, as in URL-01,MOD-01")
    add("--skip", type=_words, action="extend", metavar="IDS", default=[], help="without these cases")
    add("--quick", action="store_true", help="without cases that move tens of megabytes or open many streams")
    add("--fields", action="store_true", help="also cases for each documented field of a request")
    add("--list", action="store_true", help="list the cases and exit")

    add = parser.add_argument_group("run").add_argument
    add("--timeout", type=_seconds, default=30.0, metavar="SECONDS",
        help="for each case; large ones get more (default: %(default)g)")  # fmt: skip
    add("--concurrency", type=_positive, default=4, metavar="N", help="cases at a time (default: %(default)s)")
    add("--streams", type=_positive, default=200, metavar="N",
        help="streams at a time in CHAT-08 (default: %(default)s)")  # fmt: skip
    add("--body-limit-mib", type=_positive, default=64, metavar="MIB",
        help="more than the largest body that is taken, for REQ-25 (default: %(default)s)")  # fmt: skip
    add("--report", type=_report, action="append", metavar="FORMAT[=FILE]", default=[],
        help="write the results as html, json or junit, by cause where people read them (to conformance.html, "
        "conformance.json or conformance.xml if no file is named)")  # fmt: skip
    add("--compare", action="append", metavar="NAME=FILE", default=[],
        help="ask nothing: show these JSON reports side by side, in the file of --report html")  # fmt: skip
    add("--json", type=Path, metavar="FILE", help="write the results as JSON")
    add("--junit", type=Path, metavar="FILE", help="write the results as JUnit XML")


def run(args: argparse.Namespace) -> int:
    """List or run the cases."""
    try:
        return _run(args, sys.stdout)
    except UsageError as error:
        sys.stderr.write(f"aibrix-extproc conformance: {error}\n")
        return EXIT_USAGE


def _run(args: argparse.Namespace, out: TextIO) -> int:
    if args.compare:
        path = next((path for form, path in args.report if form == "html"), Path(_FILES["html"]))
        path.write_text(side_by_side(read_reports(args.compare)), encoding="utf-8")
        out.write(f"wrote {path}\n")
        return 0
    cases = tuple(case for case in chosen(args.select, args.only, args.skip) if not (args.quick and case.is_large))
    cases += tuple(case for case in field_cases() if case.id not in args.skip) if args.fields else ()
    if not cases:
        raise UsageError("no case is left to ask")
    if args.list:
        Screen(out).cases(cases)
        return 0
    target = _target(args)
    version = sdk.version()
    named = (("json", args.json), ("junit", args.junit))
    wanted = [*args.report, *((form, path) for form, path in named if path)]
    for _, path in wanted:
        files.check_writable(path)
    report = _ask(target, cases, version, args.concurrency, out)
    for form, path in wanted:
        _WRITERS[form](path, report)
    return EXIT_FAILED if any(result.verdict is Verdict.FAIL for result in report.results) else 0


def _ask(target: Target, cases: tuple[Case, ...], version: str, concurrency: int, out: TextIO) -> files.Report:
    screen = Screen(out, total=len(cases))
    wall_started_at = datetime.now(UTC).isoformat(timespec="seconds")
    started_at = time.monotonic()
    deployment = look(target)
    screen.about(target, deployment, version)
    results = Run(target, deployment, concurrency=concurrency, on_result=screen.progress).over(cases)
    seconds = time.monotonic() - started_at
    screen.table(results)
    screen.summary(results, seconds)
    return files.Report(target, deployment, version, wall_started_at, seconds, results)


def _target(args: argparse.Namespace) -> Target:
    if not args.base_url:
        raise UsageError("--base-url is missing, as in --base-url http://127.0.0.1:8080/v1")
    return Target(
        origin=origin_of(args.base_url, verifies_tls=not args.insecure),
        api_key=_key("--api-key", args.api_key, args.api_key_file),
        forbidden_key=args.forbidden_key,
        limited_key=args.limited_key,
        admin_key=_key("--admin-key", args.admin_key, args.admin_key_file),
        lora_path=args.lora_path,
        named=MappingProxyType(dict(_named(args))),
        context_length=args.context_length,
        seconds=args.timeout,
        streams=args.streams,
        body_limit_mib=args.body_limit_mib,
    )


def _key(option: str, given: str | None, file: Path | None) -> str | None:
    key = given
    if file is not None:
        if given is not None:
            raise UsageError(f"{option} and {option}-file exclude one another")
        try:
            key = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{option}-file {file} cannot be read: {error}") from error
    if key is not None and not (key.isascii() and key.isprintable() and key and " " not in key):
        raise UsageError(f"the key of {option} must be visible ASCII characters")
    return key


def _named(args: argparse.Namespace) -> Iterator[tuple[Need, str]]:
    for need, option in OPTION.items():
        if model := getattr(args, option.removeprefix("--").replace("-", "_")):
            yield need, model


def _report(text: str) -> tuple[str, Path]:
    form, _, path = text.partition("=")
    if form not in _WRITERS:
        raise argparse.ArgumentTypeError(f"{form!r} is no format; there are {', '.join(_WRITERS)}")
    return form, Path(path or _FILES[form])


def _words(text: str) -> list[str]:
    return [word for word in (part.strip() for part in text.split(",")) if word]


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a positive number, not {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < MOST_SECONDS:
        raise argparse.ArgumentTypeError(f"must be a positive number of seconds, not {text!r}")
    return value
