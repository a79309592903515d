"""What doctor says of engines, and of what the processors say themselves."""

from typing import Any

import pytest

from aibrix_extproc.doctor.finding import Severity
from aibrix_extproc.doctor.fleet_checks import Report, pods, reports

E = Severity.ERROR


def test_pods_without_engines_and_remarks_are_findings() -> None:
    assert [one.severity for one in pods({}, 0, "model.aibrix.ai/name")] == [E]
    assert [one.subject for one in pods({"Pod llm/a": "port"}, 2, "model.aibrix.ai/name")] == ["Pod llm/a"]


def test_reports_gather_what_several_processors_say_of_one_engine() -> None:
    fleet = {"endpoints": [
        {"name": "llm/vllm-0", "health": "unreachable", "detail": "connection refused"},
        {"name": "llm/vllm-1", "health": "not_ready", "detail": "its health check answers 401"},
        {"name": "llm/vllm-2", "health": "ready", "detail": ""},
        {"name": "llm/vllm-3", "health": "not_ready", "detail": "the engine refuses the configured key"},
        {"name": "llm/vllm-4", "health": "unreachable", "detail": "cannot connect to 10.0.0.1:4010"},
    ]}  # fmt: skip
    good = {"ready": True, "sources": {"kubernetes": {"ok": True}}}
    found = list(reports([Report("Pod a/1", good, fleet), Report("Pod a/2", good, fleet)]))
    assert {one.subject: "engine_api_key" in one.fix for one in found} == {
        "engine llm/vllm-0": False, "engine llm/vllm-1": True, "engine llm/vllm-3": True, "engine llm/vllm-4": False,
    }  # fmt: skip
    assert "2 processor(s)" in found[0].notice


def test_reports_name_engines_whose_labels_give_a_name_that_they_do_not_list() -> None:
    fleet = {"endpoints": [{"name": "llm/vllm-0", "health": "ready", "remark": "its label names 'foo'"}]}
    (found,) = reports([Report("Pod a/1", {"ready": True}, fleet), Report("Pod a/2", {"ready": True}, fleet)])
    assert (found.severity, found.subject, found.notice) == (
        Severity.WARNING,
        "engine llm/vllm-0",
        fleet["endpoints"][0]["remark"],
    )
    assert "--served-model-name" in found.fix


def test_reports_tell_of_processors_that_are_stale_or_silent() -> None:
    stale = {"ready": True, "sources": {"kubernetes": {"ok": False, "error": "pods: not allowed"}}}
    found = list(reports([Report("Pod a/1", stale, {}), Report("Pod a/2", error="forbidden")]))
    assert [(one.severity, one.subject) for one in found] == [(E, "Pod a/1"), (Severity.NOTE, "Pod a/2")]


@pytest.mark.parametrize(
    ("health", "words"),
    [
        ({"draining": True}, "draining"),
        ({"fleet_known": False, "sources": {"kubernetes": {"ok": False, "error": "pods: not allowed"}}}, "not allowed"),
        ({"fleet_known": False, "sources": {}}, "reading it"),
        ({"fleet_known": True, "keys": {"known": False, "error": "keys.yaml: no such file"}}, "no such file"),
        ({}, "does not say why"),
        ({"fleet_known": False, "sources": 5, "keys": []}, "does not know its fleet"),
    ],
)
def test_reports_show_why_a_processor_is_not_ready(health: dict[str, Any], words: str) -> None:
    health = {"ready": False} | health
    assert any(words in one.notice for one in reports([Report("Pod a/1", health, {})]) if one.field == "/readyz")


@pytest.mark.parametrize(("who", "told"), [("nobody", 1), ("everyone", 0), ("holders of keys", 0), (None, 0)])
def test_report_of_a_processor_that_lets_nobody_in_says_so(who: str | None, told: int) -> None:
    health = {"ready": True, "keys": {"known": True, "who": who}}
    found = [one for one in reports([Report("Pod a/1", health, {})]) if one.field == "/readyz"]
    assert ["its key file holds no key" in one.notice for one in found] == [True] * told


def test_reports_that_could_not_be_had_say_whether_rights_or_the_network_are_why() -> None:
    fixes = [
        one.fix for one in reports([Report("Pod a/1", error="forbidden", denied=True), Report("Pod a/2", error="x")])
    ]
    assert "pods/proxy" in fixes[0]
    assert "NetworkPolicy" in fixes[1]
