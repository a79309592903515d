"""Label selectors: what kubectl takes is taken, everything else is refused in words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.core.fleet.selector import (
    MAX_SELECTOR_CHARACTERS,
    InvalidSelector,
    Selector,
    parse_selector,
    selected,
)
from tests.build import an_endpoint

LABELS = {"tier": "fast", "zone": "a", "gpus": "8", "example.com/team": "x-1", "empty": ""}


def matches(selector: Selector, labels: dict[str, str]) -> bool:
    endpoint = an_endpoint(labels=labels)
    return selected(selector, (endpoint,)) == (endpoint,)


@pytest.mark.parametrize(
    ("text", "matched"),
    [
        ("", True),
        ("   ", True),
        ("tier=fast", True),
        ("tier==fast", True),
        (" tier = fast ", True),
        ("tier=slow", False),
        ("nothing=fast", False),
        ("tier!=slow", True),
        ("tier!=fast", False),
        ("nothing!=fast", True),
        ("zone in (a,b)", True),
        ("zone in(a)", True),
        ("zone in ( b , a )", True),
        ("zone in (b)", False),
        ("nothing in (a)", False),
        ("zone notin (b,c)", True),
        ("zone notin (a)", False),
        ("nothing notin (a)", True),
        ("tier", True),
        ("nothing", False),
        ("!nothing", True),
        ("! tier", False),
        ("gpus>4", True),
        ("gpus > 8", False),
        ("gpus<9", True),
        ("gpus<8", False),
        ("nothing>1", False),
        ("tier>1", False),
        ("example.com/team=x-1", True),
        ("empty=", True),
        ("empty in ()", True),
        ("empty in (,a)", True),
        ("tier=,zone=a", False),
        ("empty=,zone=a", True),
        ("tier=fast,zone in (a,b),!nothing,gpus>4", True),
        ("tier=fast,zone=b", False),
        ("in=in", False),
        ("notin notin (in)", True),
    ],
)
def test_selector_matches_as_kubernetes_says(text: str, matched: bool) -> None:
    assert matches(parse_selector(text), LABELS) is matched


def refusal(text: str) -> str:
    """Why it is no selector; empty if it is one."""
    try:
        return "" if matches(parse_selector(text), LABELS) in (True, False) else "neither"
    except InvalidSelector as error:
        return str(error)


@pytest.mark.parametrize(
    "text",
    [
        ",", "a=b,", ",a=b", "a=b,,c=d", "=b", "a=b=c", "a==b==c", "!a=b", "a!b", "a b", "a in b", "a in (b", "a in b)",
        "a in (b))", "a in (b c)", "a in", "(a)", "a=(b)", "a>b", "a>", "a<1.5", "a>-1", "-a=b", "a=-b", "a=b-", "a/=b",
        "/a=b", "a/b/c=d", "UP.example/a=b", "a=\x00", "schön=b", "a=schön", f"{'a' * 64}=b", f"a={'b' * 64}",
        ",".join(["a"] * 9), "a" * (MAX_SELECTOR_CHARACTERS + 1), "a=b||c=d", "a in (b),c in",
    ],
)  # fmt: skip
def test_selector_that_kubernetes_would_not_take_is_refused_in_words(text: str) -> None:
    assert 0 < len(refusal(text)) < 200


@given(st.text(st.sampled_from("ab-/1 =!<>(),in\x00ö") | st.characters(codec="latin-1"), max_size=60))
def test_any_text_is_a_selector_or_refused(text: str) -> None:
    assert len(refusal(text)) < 200
