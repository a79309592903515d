"""What a preflight is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.core.openai.wire.cors import ASKED, MAX_ASKED_CHARACTERS, preflight_headers, response_headers

ORIGIN = "https://page.example"


def allowed(asked: str) -> str:
    return dict(preflight_headers({"origin": ORIGIN, ASKED: asked}))["access-control-allow-headers"]


@pytest.mark.parametrize(
    "asked",
    [
        "authorization",
        "authorization,content-type,x-of-an-sdk-that-is-not-written-yet",
        "Authorization, X-Custom\t,\tx_other",
        "!#$%&'*+.^_`|~0-9",
        "a" * MAX_ASKED_CHARACTERS,
    ],
)
def test_headers_that_a_page_asks_for_are_allowed_as_they_are(asked: str) -> None:
    assert allowed(asked) == asked


@pytest.mark.parametrize(
    "asked",
    ["", ",", "a,", ",a", "a,,b", "a b", "a: b", "a\r\nset-cookie: x", "\u00e9", "a\x00", "(", "*,\n", "a;b",
     "a" * (MAX_ASKED_CHARACTERS + 1)],
)  # fmt: skip
def test_anything_else_gets_the_list_of_what_sdks_send(asked: str) -> None:
    assert allowed(asked).startswith("authorization, content-type, ")
    assert "x-stainless-retry-count" in allowed(asked)


@given(st.text())
def test_nothing_but_names_is_ever_given_back(asked: str) -> None:
    names = [one.strip(" \t") for one in allowed(asked).split(",")]
    assert all(
        name and name.isascii() and name.isprintable() and not set(name) & set(' "(),/:;<=>?@[\\]{}') for name in names
    )


def test_answer_depends_on_what_caches_are_told() -> None:
    told = dict(preflight_headers({"origin": ORIGIN}))
    assert told["access-control-allow-origin"] == ORIGIN
    assert told["vary"] == "Origin, Access-Control-Request-Headers"
    assert dict(response_headers(ORIGIN))["vary"] == "Origin"


def test_what_sdks_read_of_an_answer_is_exposed() -> None:
    exposed = dict(response_headers(ORIGIN))["access-control-expose-headers"].split(", ")
    assert {"x-request-id", "retry-after", "retry-after-ms", "x-should-retry"} <= set(exposed)
