"""Who is let in with which headers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.core.access.keys import KeyRing, presented_key
from aibrix_extproc.core.openai.caller import ANYONE, Caller
from aibrix_extproc.core.openai.errors import Problem

FIRST, SECOND = "sk-first-key-of-two-0001", "sk-second-key-of-two-0002"


@pytest.mark.parametrize(
    ("authorization", "x_api_key", "expected"),
    [
        ("Bearer sk-1", None, "sk-1"),
        ("bearer sk-1", None, "sk-1"),
        ("BEARER   sk-1  ", None, "sk-1"),
        (" Bearer sk-1", None, "sk-1"),
        (None, "sk-1", "sk-1"),
        (None, " sk-1 ", "sk-1"),
        ("Bearer sk-1", "sk-2", "sk-1"),
        ("Basic c2s6MQ==", None, None),
        ("Basic c2s6MQ==", "sk-2", None),
        ("Bearer", None, None),
        ("Bearer ", None, None),
        ("sk-1", None, None),
        ("", None, None),
        ("Bearersk-1", None, None),
        (None, "", None),
        (None, "  ", None),
        (None, None, None),
    ],
)
def test_key_is_taken_from_a_bearer_credential_or_from_x_api_key(
    authorization: str | None, x_api_key: str | None, expected: str | None
) -> None:
    assert presented_key(authorization, x_api_key) == expected


def test_ring_without_keys_lets_everyone_in() -> None:
    ring = KeyRing(())
    assert ring.authenticate(None, None) is ANYONE
    assert ring.authenticate("Basic x", None) is ANYONE


@pytest.mark.parametrize(("key", "name"), [(FIRST, "key-1"), (SECOND, "key-2")])
def test_known_key_names_its_caller_without_showing_itself(key: str, name: str) -> None:
    caller = KeyRing((FIRST, SECOND)).authenticate(f"Bearer {key}", None)
    assert isinstance(caller, Caller)
    assert caller.name == name


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Basic x"])
def test_missing_key_is_told_apart_from_a_wrong_one(authorization: str | None) -> None:
    assert KeyRing((FIRST,)).authenticate(authorization, None) == Problem("missing_api_key")


@pytest.mark.parametrize("key", [FIRST[:-1], f"{FIRST}x", FIRST.upper(), SECOND, f"{FIRST} {FIRST}", "\u00e9"])
def test_wrong_key_is_refused_and_shown_only_in_part(key: str) -> None:
    problem = KeyRing((FIRST,)).authenticate(f"Bearer {key}", None)
    assert isinstance(problem, Problem)
    assert problem.key == "invalid_api_key"
    assert key not in problem.values["key"]


def test_ring_keeps_no_key_in_clear() -> None:
    assert FIRST not in repr(vars(KeyRing((FIRST,))))


@given(st.text(st.characters(max_codepoint=0xFF), max_size=40), st.none() | st.text(max_size=20))
def test_any_header_is_answered(authorization: str, x_api_key: str | None) -> None:
    answer = KeyRing((FIRST,)).authenticate(authorization, x_api_key)
    assert isinstance(answer, Problem)
