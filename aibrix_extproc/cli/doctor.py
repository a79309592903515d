"""`aibrix-extproc doctor`: what is wrong with an installation on Kubernetes, and what to do about it."""

import argparse
import asyncio
import contextlib
import json
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from aibrix_extproc.app.doctor import DoctorError, Wanted, examine_cluster, examine_files
from aibrix_extproc.cli.colours import console
from aibrix_extproc.doctor.finding import Finding, Severity

EXIT_FOUND: Final = 1
EXIT_CANNOT: Final = 2
STDIN: Final = "-"
_WIDTH: Final = 110
_STYLES: Final = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.NOTE: "dim"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options for what is checked and how it is printed."""
    parser.add_argument(
        "--files", nargs="+", metavar="FILE",
        help="look at these manifests instead of a cluster; - reads what `kubectl kustomize DIR` prints",
    )  # fmt: skip
    parser.add_argument("--kubeconfig", type=Path, help="kubeconfig file; without it the service account, or yours")
    parser.add_argument("--kube-context", help="context of the kubeconfig")
    parser.add_argument(
        "--gateway-namespace", default="aibrix-extproc-system", help="namespace of the Gateway and of our pods"
    )
    parser.add_argument("--controller-namespace", default="envoy-gateway-system", help="namespace of Envoy Gateway")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--strict", action="store_true", help="let warnings fail, too")


def run(args: argparse.Namespace) -> int:
    """0 if nothing is wrong, 1 if something is, 2 if nothing can be checked."""
    try:
        findings = _examine(args)
    except DoctorError as error:
        print(f"aibrix-extproc: {error}", file=sys.stderr)
        return EXIT_CANNOT
    bad = [one for one in findings if one.severity is Severity.ERROR or (args.strict and one.severity != Severity.NOTE)]
    if args.json:
        print(json.dumps({"ok": not bad, "findings": [asdict(one) for one in findings]}, indent=2))
    else:
        _show(findings)
    return EXIT_FOUND if bad else 0


def _examine(args: argparse.Namespace) -> list[Finding]:
    if args.files:
        with contextlib.ExitStack() as stack:
            try:
                files = [
                    sys.stdin if name == STDIN else stack.enter_context(Path(name).open(encoding="utf-8"))
                    for name in args.files
                ]
                return examine_files(files)
            except OSError as error:
                raise DoctorError(f"{error.filename}: {error.strerror}") from error
    wanted = Wanted(args.kubeconfig, args.kube_context, args.gateway_namespace, args.controller_namespace)
    return asyncio.run(examine_cluster(wanted, lambda text: print(text, file=sys.stderr)))


def _show(findings: Sequence[Finding]) -> None:
    """For people: the worst first, each with what it means and what to do."""
    out, order = console(sys.stdout), list(Severity)
    for one in sorted(findings, key=lambda one: (order.index(one.severity), one.subject)):
        out.write(f"{one.severity.upper():8}", _STYLES[one.severity])
        out.write(_block(one) + "\n\n")
    out.write(_total(findings) + "\n", "" if findings else "green")


def _total(findings: Sequence[Finding]) -> str:
    counts = {severity: sum(1 for one in findings if one.severity is severity) for severity in Severity}
    total = ", ".join(f"{number} {severity}{'' if number == 1 else 's'}" for severity, number in counts.items())
    return f"{total}." if findings else "Nothing is wrong that can be seen from here."


def _block(one: Finding) -> str:
    place = f"{one.subject}  {one.field}".rstrip()
    return "\n".join([
        place,
        *textwrap.wrap(one.notice, _WIDTH, initial_indent=" " * 8, subsequent_indent=" " * 8),
        *textwrap.wrap(f"fix: {one.fix}", _WIDTH, initial_indent=" " * 8, subsequent_indent=" " * 13),
    ])  # fmt: skip
