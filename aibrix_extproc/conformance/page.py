"""Results for people: one page of HTML for a run, grouped by cause, and one that shows several runs side by side."""

import html
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from aibrix_extproc.conformance.target import UsageError

Json = Mapping[str, Any]
ALONE: Final = "other causes"
_STYLE: Final = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; width: 100%; }
th, td { border: 1px solid #ddd; padding: .3rem .5rem; text-align: left; vertical-align: top; }
th { background: #f5f5f5; position: sticky; top: 0; } code { overflow-wrap: anywhere; }
.pass { color: #18722f; } .fail { color: #b3261e; font-weight: 600; } .skip { color: #777; }
summary { cursor: pointer; }
@media (prefers-color-scheme: dark) { body { background: #181818; color: #ddd; } th { background: #262626; }
th, td { border-color: #444; } .pass { color: #6fcf86; } .fail { color: #ff8a80; } }
"""


def run_page(report: Json) -> str:
    """A run: counts, the failures by their causes, then every case by group."""
    parts = [
        f"<p>{_text(report['base_url'])}, asked with {_text(report['sdk'])} by {_text(report['tool'])}, "
        f"{_text(report['started_at'])}.</p>",
        f"<p>{_counts(report['counts'])} in {report['seconds']:.0f} s.</p>",
        *_failures(report),
        "<h2>All cases</h2>",
        *(_group(name, cases) for name, cases in _by_group(report["cases"]).items()),
    ]
    return _page(f"Conformance of {report['base_url']}", parts)


def side_by_side(reports: Mapping[str, Json]) -> str:
    """Several runs: counts of each by group, their causes, and the cases about which they differ."""
    groups = list(dict.fromkeys(case["group"] for one in reports.values() for case in one["cases"]))
    counted = [_counted(group, reports) for group in groups]
    total = ["all", *(_counts(one["counts"]) for one in reports.values())]
    asked = {name: f"{one['tool']}, {one['started_at']}" for name, one in reports.items()}
    parts = [
        "<ul>",
        *(f"<li><b>{_text(name)}</b>: {_text(when)}</li>" for name, when in asked.items()),
        "</ul>",
        _table(["group", *reports], [*counted, total]),
        "<h2>Causes</h2>",
        _table(["cause", *reports], list(_causes(reports))),
        "<h2>Cases about which they differ</h2>",
        _table(["case", "expected", *reports], list(_differences(reports))),
    ]
    return _page("Conformance of several deployments", parts)


def read_reports(named: Iterable[str]) -> dict[str, Json]:
    """The reports of NAME=FILE words, as `--report json` wrote them."""
    found: dict[str, Json] = {}
    for word in named:
        name, separator, path = word.partition("=")
        if not separator:
            raise UsageError(f"--compare {word}: expected NAME=FILE")
        try:
            report = json.loads(Path(path).read_text("utf-8"))
            found[name] = {key: report[key] for key in ("tool", "started_at", "counts", "cases", "roots")}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"--compare {word}: no report as --report json writes it: {error}") from error
    return found


def _failures(report: Json) -> Iterator[str]:
    failed = [case for case in report["cases"] if case["result"] == "fail"]
    if not failed:
        return
    yield "<h2>Failures by cause</h2>"
    shared = report["roots"]
    for root in shared:
        yield _details(root, [case for case in failed if case["root"] == root], opened=True)
    rest = [case for case in failed if case["root"] not in shared]
    if rest:
        yield _details(ALONE, rest, opened=True)


def _group(name: str, cases: Sequence[Json]) -> str:
    return _details(name, cases, opened=False)


def _details(title: str, cases: Sequence[Json], *, opened: bool) -> str:
    rows = [[f"<b>{_text(one['id'])}</b><br>{_text(one['title'])}", _verdict(one), _told(one)] for one in cases]
    head = f"<details{' open' if opened else ''}><summary>{_text(title)}: {_counts(_count(cases))}</summary>"
    return f"{head}{_table(['case', 'result', 'expected, and what came'], rows)}</details>"


def _told(case: Json) -> str:
    came = f"<br>came: <code>{_text(case['came'])}</code>" if case["came"] else ""
    reason = f"<br>because: {_text(case['reason'])}" if case["reason"] else ""
    return f"{_text(case['expected'])}{came}{reason}"


def _causes(reports: Mapping[str, Json]) -> Iterator[list[str]]:
    """How many cases met each cause, the most common first."""
    met = {name: Counter(case["root"] for case in one["cases"] if case["root"]) for name, one in reports.items()}
    every: Counter[str] = sum(met.values(), Counter())
    for root, _ in every.most_common():
        yield [_text(root), *(str(found[root] or "") for found in met.values())]


def _differences(reports: Mapping[str, Json]) -> Iterator[list[str]]:
    cases = {name: {case["id"]: case for case in one["cases"]} for name, one in reports.items()}
    for identifier, case in {key: case for known in cases.values() for key, case in known.items()}.items():
        found = [known.get(identifier) for known in cases.values()]
        if len({one and one["result"] for one in found}) > 1:
            told = [_verdict(one) + _hint(one) if one else "not asked" for one in found]
            yield [f"<b>{_text(identifier)}</b><br>{_text(case['title'])}", _text(case["expected"]), *told]


def _hint(case: Json) -> str:
    told = case["came"] if case["result"] == "fail" else case["reason"]
    return f"<br><code>{_text(told[:160])}</code>" if told else ""


def _counted(group: str, reports: Mapping[str, Json]) -> list[str]:
    counts = (_count([case for case in one["cases"] if case["group"] == group]) for one in reports.values())
    return [_text(group), *(_counts(one) if sum(one.values()) else "" for one in counts)]


def _count(cases: Iterable[Json]) -> Counter[str]:
    return Counter(case["result"] for case in cases)


def _counts(counts: Mapping[str, int]) -> str:
    words = {"pass": "passed", "fail": "failed", "skip": "skipped"}
    told = (f'<span class="{key}">{counts[key]} {word}</span>' for key, word in words.items() if counts.get(key))
    return ", ".join(told) or "nothing"


def _verdict(case: Json) -> str:
    return f'<span class="{case["result"]}">{case["result"]}</span>'


def _by_group(cases: Iterable[Json]) -> dict[str, list[Json]]:
    found: dict[str, list[Json]] = {}
    for case in cases:
        found.setdefault(case["group"], []).append(case)
    return found


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    first = "".join(f"<th>{_text(cell)}</th>" for cell in head)
    others = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{first}</tr>{others}</table>"


def _page(title: str, parts: Iterable[str]) -> str:
    head = f'<meta charset="utf-8"><title>{_text(title)}</title><style>{_STYLE}</style>'
    body = f"<h1>{_text(title)}</h1>{''.join(parts)}"
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>\n'


def _text(value: object) -> str:
    return html.escape(str(value))
