"""The table of cases: complete, and chosen from as asked."""

import re

import pytest

from aibrix_extproc.cli.reference_conformance import conformance_page
from aibrix_extproc.conformance.table import CASES, GROUP_OF, GROUPS, NOT_ASKED, chosen
from aibrix_extproc.conformance.target import UsageError

# How many cases each family of the acceptance has.
FAMILIES = {
    "AUTH": 10, "HDR": 9, "URL": 14, "REQ": 30, "CHAT": 18, "COMP": 2, "RESP": 9, "EMB": 6, "RER": 1, "AUD": 6,
    "TOK": 1, "ERR": 22, "MOD": 8, "FILE": 17, "UPL": 2, "BAT": 30, "OPS": 9, "USE": 6, "LIM": 14, "IF": 5,
}  # fmt: skip


def ids(cases: tuple[object, ...]) -> list[str]:
    return [str(getattr(case, "id", case)) for case in cases]


def test_every_acceptance_id_is_asked_or_has_a_reason() -> None:
    wanted = {f"{family}-{number:02}" for family, count in FAMILIES.items() for number in range(1, count + 1)}
    unasked = [name for names in NOT_ASKED.values() for name in names]
    found = [*ids(CASES), *unasked]
    assert sorted(found) == sorted(wanted | {"OPS-16"}), "of the family's second part only this one"


def test_cases_say_what_they_expect() -> None:
    for case in CASES:
        assert re.fullmatch(r"[A-Z]+-\d\d", case.id)
        assert case.title
        assert case.expected


def test_choosing_nothing_gives_all() -> None:
    assert chosen([], [], []) == CASES


def test_choosing_narrows_by_group_and_id() -> None:
    assert chosen(["urls", "models"], [], []) == (*GROUPS["urls"], *GROUPS["models"])
    assert ids(chosen([], ["URL-01", "MOD-01"], [])) == ["URL-01", "MOD-01"]
    assert ids(chosen(["urls"], ["URL-01", "MOD-01"], [])) == ["URL-01"]
    assert "URL-01" not in ids(chosen(["urls"], [], ["URL-01"]))


@pytest.mark.parametrize(
    ("select", "only", "skip", "text"),
    [(["url"], [], [], "--select url: no such group; there are auth"), ([], ["URL-99"], [], "URL-99: no such case"),
     ([], [], ["url-01"], "url-01: no such case")],
)  # fmt: skip
def test_choosing_what_is_none_is_refused(select: list[str], only: list[str], skip: list[str], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        chosen(select, only, skip)


def test_the_page_has_every_case() -> None:
    page = conformance_page()
    assert [case.id for case in CASES if f"| {case.id} | " not in page] == []
    assert set(GROUP_OF.values()) == set(GROUPS)
