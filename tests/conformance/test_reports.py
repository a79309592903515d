"""What users and machines get to read."""

import io
import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest

from aibrix_extproc.conformance.case import Case, Result, Verdict
from aibrix_extproc.conformance.files import Report, check_writable, write_html, write_json, write_junit
from aibrix_extproc.conformance.page import read_reports, side_by_side
from aibrix_extproc.conformance.screen import Screen
from aibrix_extproc.conformance.table import CASES, GROUP_OF
from aibrix_extproc.conformance.target import UsageError
from tests.conformance.fake import a_deployment, a_target

URL, MODEL, KEY = (next(case for case in CASES if case.id == name) for name in ("URL-01", "MOD-01", "AUTH-01"))


def a_result(case: Case, verdict: Verdict, **texts: str) -> Result:
    return Result(case, GROUP_OF[case.id], verdict, 1500, **({"expected": case.expected} | texts))


RESULTS = (
    a_result(KEY, Verdict.SKIP, reason="no key <required>"),
    a_result(URL, Verdict.PASS),
    a_result(MODEL, Verdict.FAIL, expected="no root", came="root & \\x00 " + "long " * 200),
)
REPORT = Report(a_target(api_key="sk-0123456789"), a_deployment(), "3.54.0", "2026-01-02T03:04:05+00:00", 4.5, RESULTS)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_a_line_for_each_result() -> None:
    out = io.StringIO()
    screen = Screen(out, total=3)
    for result in RESULTS:
        screen.progress(result)
    assert out.getvalue().splitlines() == [
        "[1/3] skip AUTH-01  no key  no key <required>",
        "[2/3] pass URL-01   unknown URL  1500 ms",
        "[3/3] FAIL MOD-01   list  1500 ms",
    ]


def test_the_table_shows_what_was_expected_and_what_came() -> None:
    out = io.StringIO()
    screen = Screen(out)
    screen.table(RESULTS)
    screen.summary(RESULTS, 4.5)
    lines = out.getvalue().splitlines()
    assert [line.split() for line in lines[1:2]] == [["id", "result", "case", "expected"]]
    assert lines[3].startswith("AUTH-01   skip    no key       401")
    assert lines[4] == "                because   no key <required>"
    assert lines[5] == "URL-01    pass    unknown URL  404 in shape"
    assert lines[6].startswith("MOD-01    FAIL    list         required fields")
    assert lines[7] == "                expected  no root"
    assert lines[8].startswith("                came      root & \\x00 long long")
    assert lines[-3].endswith("...")
    assert lines[-1] == "1 passed, 1 failed, 1 skipped in 4.5 s"
    assert max(map(len, lines)) <= 120
    assert "\x1b" not in out.getvalue()


def test_a_terminal_gets_colours() -> None:
    out = Terminal()
    Screen(out, total=1).progress(RESULTS[2])
    assert "\x1b[1;31mFAIL\x1b[0m MOD-01" in out.getvalue()


def test_the_head_names_models_and_hides_the_key() -> None:
    out = io.StringIO()
    Screen(out).about(REPORT.target, REPORT.deployment, "3.54.0")
    assert "Conformance of http://127.0.0.1:1/v1 with openai 3.54.0\n  API key: required\n" in out.getvalue()
    assert "  chat model: org/chat\n" in out.getvalue()
    assert "0123456789" not in out.getvalue()


def test_json_holds_the_run(tmp_path: Path) -> None:
    write_json(tmp_path / "out.json", REPORT)
    text = (tmp_path / "out.json").read_text()
    document = json.loads(text)
    assert document["counts"] == {"pass": 1, "fail": 1, "skip": 1}
    assert document["base_url"] == "http://127.0.0.1:1/v1"
    assert document["deployment"]["used"]["chat"] == "org/chat"
    failed = document["cases"][2]
    assert (failed["id"], failed["group"], failed["result"], failed["expected"]) == (
        "MOD-01", "models", "fail", "no root",
    )  # fmt: skip
    assert document["cases"][0]["reason"] == "no key <required>"
    assert "0123456789" not in text


def test_junit_is_a_suite_for_each_group(tmp_path: Path) -> None:
    write_junit(tmp_path / "out.xml", REPORT)
    root = ElementTree.parse(tmp_path / "out.xml").getroot()
    assert {name: root.get(name) for name in ("tests", "failures", "skipped", "time")} == {
        "tests": "3", "failures": "1", "skipped": "1", "time": "4.500",
    }  # fmt: skip
    assert [suite.get("name") for suite in root] == ["auth", "urls", "models"]
    failure = root.find("testsuite[@name='models']/testcase/failure")
    assert failure is not None
    assert failure.get("message") == "expected no root"
    assert (failure.text or "").startswith("expected: no root\ncame: root & \\x00 long")
    case = root.find("testsuite[@name='urls']/testcase")
    assert case is not None
    assert (case.get("classname"), case.get("name"), case.get("time")) == (
        "conformance.urls", "URL-01 unknown URL", "1.500",
    )  # fmt: skip
    skipped = root.find("testsuite[@name='auth']/testcase/skipped")
    assert skipped is not None
    assert skipped.get("message") == "no key <required>"


def test_a_report_that_cannot_be_written_is_told_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none/out\.json cannot be written: No such file or directory"):
        check_writable(tmp_path / "none" / "out.json")


def test_page_groups_failures_by_cause_and_escapes_what_came(tmp_path: Path) -> None:
    failed = [a_result(case, Verdict.FAIL, came="<b>" + case.id, root="no <id>") for case in (KEY, URL)]
    write_html(tmp_path / "run.html", replace(REPORT, results=(*failed, RESULTS[2])))
    page = (tmp_path / "run.html").read_text("utf-8")
    assert "<b>AUTH-01</b>" in page
    assert "<code>&lt;b&gt;AUTH-01</code>" in page
    shared, alone = page.index("no &lt;id&gt;: "), page.index("other causes: ")
    assert shared < alone < page.index("All cases")


def test_runs_are_shown_side_by_side_with_what_they_differ_in(tmp_path: Path) -> None:
    for name, verdict in (("ours", Verdict.PASS), ("other", Verdict.FAIL)):
        results = (
            a_result(URL, verdict, root="" if verdict is Verdict.PASS else "no 404"),
            a_result(KEY, Verdict.PASS),
        )
        write_json(tmp_path / f"{name}.json", replace(REPORT, results=results))
    page = side_by_side(read_reports([f"ours={tmp_path / 'ours.json'}", f"other={tmp_path / 'other.json'}"]))
    assert "<th>ours</th><th>other</th>" in page
    assert "<td>no 404</td><td></td><td>1</td>" in page
    assert "<b>URL-01</b>" in page
    assert "<b>AUTH-01</b>" not in page


@pytest.mark.parametrize("word", ["file.json", "a=/nowhere", "a={empty}"])
def test_what_is_no_report_is_said(word: str, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("{}")
    with pytest.raises(UsageError, match="--compare"):
        read_reports([word.replace("{empty}", str(tmp_path / "empty"))])
