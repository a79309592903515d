"""Results for machines: JSON for scripts, JUnit XML for CI systems."""

import json
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aibrix_extproc import __version__
from aibrix_extproc.conformance.case import Result, Verdict, by_root
from aibrix_extproc.conformance.page import run_page
from aibrix_extproc.conformance.target import Deployment, Target, UsageError


@dataclass(frozen=True, slots=True)
class Report:
    """A whole run."""

    target: Target
    deployment: Deployment
    sdk_version: str
    wall_started_at: str  # ISO 8601
    seconds: float
    results: tuple[Result, ...]


def check_writable(path: Path) -> None:
    """UsageError now instead of a lost report later."""
    try:
        path.open("a").close()
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}") from error


def write_json(path: Path, report: Report) -> None:
    """One object with the run and its cases."""
    path.write_text(json.dumps(document_of(report), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_html(path: Path, report: Report) -> None:
    """A page, grouped by cause."""
    path.write_text(run_page(document_of(report)), encoding="utf-8")


def document_of(report: Report) -> dict[str, Any]:
    """The run and its cases."""
    counts = Counter(result.verdict for result in report.results)
    return {
        "tool": f"aibrix-extproc {__version__}",
        "sdk": f"openai {report.sdk_version}",
        "base_url": report.target.origin.base_url,
        "started_at": report.wall_started_at,
        "seconds": round(report.seconds, 3),
        "deployment": {
            "requires_key": report.deployment.wants_key,
            "models": [card.id for card in report.deployment.cards],
            "used": {need.name.lower(): model for need, model in report.deployment.models.items()},
        },
        "counts": {verdict.lower(): counts[verdict] for verdict in Verdict},
        "roots": {root: [one.case.id for one in found] for root, found in by_root(report.results).items()},
        "cases": [_case(result) for result in report.results],
    }


def _case(result: Result) -> dict[str, Any]:
    return {
        "id": result.case.id,
        "group": result.group,
        "title": result.case.title,
        "result": result.verdict.lower(),
        "milliseconds": result.milliseconds,
        "expected": result.expected,
        "came": result.came or None,
        "reason": result.reason or None,
        "root": result.root or None,
    }


def write_junit(path: Path, report: Report) -> None:
    """One test suite for each group."""
    root = ElementTree.Element("testsuites", _counted("aibrix-extproc conformance", report.results, report.seconds))
    for group in dict.fromkeys(result.group for result in report.results):
        members = [result for result in report.results if result.group == group]
        seconds = sum(result.milliseconds for result in members) / 1000
        attributes = _counted(group, members, seconds) | {"timestamp": report.wall_started_at}
        suite = ElementTree.SubElement(root, "testsuite", attributes)
        for result in members:
            _testcase(suite, result)
    ElementTree.indent(root)
    ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def _counted(name: str, results: Sequence[Result], seconds: float) -> dict[str, str]:
    counts = Counter(result.verdict for result in results)
    return {
        "name": name,
        "tests": str(len(results)),
        "failures": str(counts[Verdict.FAIL]),
        "errors": "0",
        "skipped": str(counts[Verdict.SKIP]),
        "time": f"{seconds:.3f}",
    }


def _testcase(suite: ElementTree.Element, result: Result) -> None:
    attributes = {
        "classname": f"conformance.{result.group}",
        "name": f"{result.case.id} {result.case.title}",
        "time": f"{result.milliseconds / 1000:.3f}",
    }
    case = ElementTree.SubElement(suite, "testcase", attributes)
    if result.verdict is Verdict.FAIL:
        message = result.root or f"expected {result.expected}"
        failure = ElementTree.SubElement(case, "failure", {"message": message})
        failure.text = f"expected: {result.expected}\ncame: {result.came}"
    elif result.verdict is Verdict.SKIP:
        ElementTree.SubElement(case, "skipped", {"message": result.reason})
