"""The page that compares deployments, from their reports."""

from typing import Any

from tools.compare.writing import page


def case(identifier: str, result: str, group: str = "chat", root: str = "") -> dict[str, Any]:
    told = {"id": identifier, "title": f"title of {identifier}", "expected": "a | b"}
    return {**told, "group": group, "result": result, "root": root or None}


def report(*cases: dict[str, Any]) -> dict[str, Any]:
    results = [one["result"] for one in cases]
    return {"sdk": "openai 9", "cases": list(cases), "counts": {key: results.count(key) for key in set(results)}}


OURS = report(case("CHAT-01", "pass"), case("CHAT-02", "pass"), case("CHAT-03", "skip"), case("f.x", "pass", "fields"))
THEIRS = report(
    case("CHAT-01", "pass"), case("CHAT-02", "fail", root="no request id"), case("CHAT-03", "fail"),
    case("f.x", "fail", "fields", "values of a wrong type are taken"),
)  # fmt: skip


def test_a_page_counts_by_group_and_cause_and_shows_where_deployments_differ() -> None:
    versions = {"ours": "1.0", "theirs": "2.0"}
    text = page(
        {"ours": OURS, "theirs": THEIRS}, versions, engine="vLLM 0.33.0", command="make x", wall_date="2026-11-30"
    )
    assert "| theirs | 2.0 | 1 passed, 3 failed, 0 skipped |" in text
    assert "| chat | 2 of 2 | 1 of 3 |" in text
    assert "| no request id |  | 1 |" in text
    assert "| CHAT-02: title of CHAT-02 | a \\| b | yes | **no** |" in text
    assert "CHAT-01" not in text
    assert "CHAT-03" not in text, "one that skips does not differ"
    assert "title of f.x" not in text
