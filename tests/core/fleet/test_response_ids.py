"""Ids of responses: what they say to whom, and that nothing else can be made to say anything."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.core.routing.response_ids import MAX_HOLDERS, MAX_LENGTH, PREFIX, IdKey, read_id
from tests.build import an_endpoint

KEY = IdKey(b"one secret")
ENDPOINTS = [an_endpoint(number) for number in range(1, 1001)]
URL_SAFE = set(string.ascii_letters + string.digits + "-_")


def made(count: int = 2, *, random: float = 0.5, caller: str = "team-a") -> str:
    return KEY.issue(caller, "org/model", ENDPOINTS[:count], 1_700_000_000.5, random)


@pytest.mark.parametrize("count", range(1, MAX_HOLDERS + 1))
def test_id_names_the_model_the_time_and_the_endpoints_in_order(count: int) -> None:
    order = ENDPOINTS[count - 1 :: -1]
    claim = read_id([KEY], "team-a", KEY.issue("team-a", "org/model", order, 1_700_000_000.5, 0.5))
    assert claim is not None
    assert claim.held_by(ENDPOINTS) == tuple(order)
    assert claim.held_by(reversed(ENDPOINTS)) == tuple(order)
    assert claim.wall_at == 1_700_000_000
    assert [model for model in ("org/model", "other") if claim.is_of(model)] == ["org/model"]


def test_endpoints_that_left_are_not_named() -> None:
    claim = read_id([KEY], "team-a", made(3))
    assert claim is not None
    assert claim.held_by(ENDPOINTS[1:2] + ENDPOINTS[3:]) == (ENDPOINTS[1],)


def test_more_endpoints_than_an_id_has_room_for_are_left_out() -> None:
    assert len(made(16)) == len(made(MAX_HOLDERS)) == MAX_LENGTH


def test_id_is_short_opaque_and_fits_into_a_path() -> None:
    ids = {made(2, random=number / 100) for number in range(100)}
    assert len(ids) == 100
    assert all(one.startswith(PREFIX) and set(one) <= URL_SAFE and len(one) <= 64 for one in ids)
    # Two ids of the same engines have nothing in common: each place takes many values.
    assert all(len({one[at] for one in ids}) > 10 for at in range(len(PREFIX), len(made()) - 1))


@given(st.text(max_size=2 * MAX_LENGTH) | st.text("AQgw-_=", max_size=MAX_LENGTH).map(PREFIX.__add__))
def test_what_nobody_issued_is_unknown(invented: str) -> None:
    assert read_id([KEY], "team-a", invented) is None


@given(st.integers(1, MAX_HOLDERS), st.data())
def test_id_with_any_other_character_is_unknown(count: int, data: st.DataObject) -> None:
    good = made(count)
    at = data.draw(st.integers(0, len(good) - 1))
    other = data.draw(st.sampled_from([*sorted(URL_SAFE - {good[at]}), "", "=", "+", "/", "\u00e9", " "]))
    assert read_id([KEY], "team-a", good[:at] + other + good[at + 1 :]) is None


@given(st.text(max_size=20))
def test_id_says_nothing_to_another_caller(name: str) -> None:
    assert (read_id([KEY], name, made()) is None) == (name != "team-a")


def test_id_of_another_secret_is_unknown_until_that_secret_is_shared() -> None:
    other = IdKey(b"another secret")
    assert read_id([other], "team-a", made()) is None
    assert read_id([other, KEY], "team-a", made()) is not None


def test_lone_surrogates_in_names_are_no_error() -> None:
    odd = KEY.issue("\ud800", "\udfff", ENDPOINTS[:1], 0.0, 0.0)
    claim = read_id([KEY], "\ud800", odd)
    assert claim is not None
    assert claim.is_of("\udfff")
