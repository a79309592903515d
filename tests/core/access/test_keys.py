"""Who is let in with which headers."""

import timeit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.core.access.holders import IssuedKey, KeyHolder, digest_of, static_holders
from aibrix_extproc.core.access.keys import MAX_KEY_LENGTH, OPEN_RING, UNREAD_RING, KeyRing, presented_key
from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.contract.operations import Role
from aibrix_extproc.core.placing import ANYONE, Caller

FIRST, SECOND = "sk-first-key-of-two-0001", "sk-second-key-of-two-0002"
NOW = 1_800_000_000.0


def a_ring(*keys: str) -> KeyRing:
    return KeyRing(static_holders(keys))


def a_key(key: str, *, wall_expires_at: float | None = None, disabled: bool = False) -> IssuedKey:
    return IssuedKey("k_1", digest_of(key), wall_expires_at=wall_expires_at, disabled=disabled)


def bearer(ring: KeyRing, key: str, wall_now: float = NOW) -> Caller | Problem:
    return ring.authenticate(f"Bearer {key}", None, wall_now)


def refusal(ring: KeyRing, key: str, wall_now: float = NOW) -> str:
    answer = bearer(ring, key, wall_now)
    assert isinstance(answer, Problem)
    return answer.key


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


def test_open_ring_lets_everyone_in() -> None:
    assert OPEN_RING.authenticate(None, None, NOW) is ANYONE
    assert OPEN_RING.authenticate("Basic x", None, NOW) is ANYONE


@pytest.mark.parametrize("authorization", [None, "Basic x", f"Bearer {FIRST}"])
def test_unread_ring_lets_nobody_in_and_asks_to_come_back(authorization: str | None) -> None:
    answer = UNREAD_RING.authenticate(authorization, None, NOW)
    assert isinstance(answer, Problem)
    assert (answer.key, answer.http_status) == ("keys_unknown", 503)


def test_ring_without_keys_lets_nobody_in() -> None:
    assert refusal(KeyRing(()), FIRST) == "invalid_api_key"
    assert KeyRing(()).authenticate(None, None, NOW) == Problem("missing_api_key")


@pytest.mark.parametrize(("key", "name"), [(FIRST, "key-1"), (SECOND, "key-2")])
def test_known_key_names_its_caller_without_showing_itself(key: str, name: str) -> None:
    assert bearer(a_ring(FIRST, SECOND), key) == Caller(name)


@pytest.mark.parametrize("key", [FIRST, SECOND], ids=["old", "new"])
def test_each_of_several_keys_of_a_caller_is_that_caller(key: str) -> None:
    caller = Caller("team-a", models=("chat-*",))
    ring = KeyRing([KeyHolder(caller, (a_key(FIRST), a_key(SECOND)))])
    assert bearer(ring, key) == caller
    assert len(ring) == 2


@pytest.mark.parametrize(
    ("wall_now", "accepted"), [(NOW - 0.001, True), (NOW, False), (NOW + 1, False)], ids=["before", "at", "after"]
)
def test_key_is_good_until_its_end(wall_now: float, accepted: bool) -> None:
    caller = Caller("team-a")
    ring = KeyRing([KeyHolder(caller, (a_key(FIRST, wall_expires_at=NOW), a_key(SECOND)))])
    assert bearer(ring, SECOND, wall_now) == caller, "the end of one key is not that of its caller"
    if accepted:
        assert bearer(ring, FIRST, wall_now) == caller
    else:
        assert refusal(ring, FIRST, wall_now) == "expired_api_key"


def test_expired_key_is_answered_as_a_wrong_one_by_status_and_code() -> None:
    row = Problem("expired_api_key").row
    assert (row.status, row.code) == (401, "invalid_api_key")


@pytest.mark.parametrize(
    "holder",
    [
        KeyHolder(Caller("team-a"), (a_key(FIRST, disabled=True), a_key(SECOND))),
        KeyHolder(Caller("team-a"), (a_key(FIRST),), disabled=True),
    ],
    ids=["key", "caller"],
)
def test_what_is_disabled_gets_nobody_in(holder: KeyHolder) -> None:
    assert refusal(KeyRing([holder]), FIRST) == "invalid_api_key"


def test_first_holder_of_a_key_decides_what_it_may() -> None:
    strict = KeyHolder(Caller("team-a", role=Role.USER), (a_key(FIRST, wall_expires_at=NOW),))
    ring = KeyRing((strict, *static_holders([FIRST])))
    assert bearer(ring, FIRST, NOW - 1) == strict.caller
    assert refusal(ring, FIRST, NOW) == "expired_api_key"


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Basic x"])
def test_missing_key_is_told_apart_from_a_wrong_one(authorization: str | None) -> None:
    assert a_ring(FIRST).authenticate(authorization, None, NOW) == Problem("missing_api_key")


@pytest.mark.parametrize("key", [FIRST[:-1], f"{FIRST}x", FIRST.upper(), SECOND, f"{FIRST} {FIRST}", "\u00e9"])
def test_wrong_key_is_refused_and_shown_only_in_part(key: str) -> None:
    problem = bearer(a_ring(FIRST), key)
    assert isinstance(problem, Problem)
    assert problem.key == "invalid_api_key"
    assert key not in problem.values["key"]


@pytest.mark.parametrize("length", [MAX_KEY_LENGTH, MAX_KEY_LENGTH + 1, 1_000_000])
def test_key_is_looked_up_up_to_its_greatest_length(length: int) -> None:
    key = "k" * length
    ring = a_ring(key)
    expected = Caller("key-1") if length <= MAX_KEY_LENGTH else "invalid_api_key"
    for answer in (ring.authenticate(f"Bearer {key}", None, NOW), ring.authenticate(None, key, NOW)):
        assert (answer.key if isinstance(answer, Problem) else answer) == expected


def test_ring_keeps_no_key_in_clear() -> None:
    ring = a_ring(FIRST)
    assert FIRST not in repr([getattr(ring, name) for name in ring.__slots__])


@given(st.text(st.characters(max_codepoint=0xFF), max_size=40), st.none() | st.text(max_size=20))
def test_any_header_is_answered(authorization: str, x_api_key: str | None) -> None:
    assert isinstance(a_ring(FIRST).authenticate(authorization, x_api_key, NOW), Problem)


@given(st.lists(st.text("abc", min_size=1, max_size=3), max_size=6), st.text("abc", min_size=1, max_size=3))
def test_exactly_the_keys_of_the_ring_are_accepted(keys: list[str], tried: str) -> None:
    answer = bearer(a_ring(*keys), tried)
    assert isinstance(answer, Caller) == (tried in keys)
    if isinstance(answer, Caller):
        assert answer.name == f"key-{keys.index(tried) + 1}"


def _seconds(ring: KeyRing, authorization: str) -> float:
    """For one lookup, at best: what other processes take is not ours."""
    return min(timeit.repeat(lambda: ring.authenticate(authorization, None, NOW), number=200, repeat=30)) / 200


@pytest.mark.slow
@pytest.mark.parametrize("key", [f"sk-{9:048d}", "sk-unknown-0123456789"], ids=["known", "unknown"])
def test_lookup_among_ten_thousand_keys_costs_what_it_does_among_ten(key: str) -> None:
    few, many = (a_ring(*(f"sk-{number:048d}" for number in range(count))) for count in (10, 10_000))
    ratio = _seconds(many, f"Bearer {key}") / _seconds(few, f"Bearer {key}")
    assert ratio < 2  # about 1; a walk through all keys would take hundreds


@pytest.mark.slow
def test_header_of_a_megabyte_costs_what_a_key_costs() -> None:
    ring = a_ring(FIRST)
    long = "Bearer " + "k" * 1_000_000
    assert _seconds(ring, long) < 10 * _seconds(ring, f"Bearer {FIRST}")  # to hash it would take a hundred times that


@pytest.mark.parametrize("key_off", [False, True])
@pytest.mark.parametrize("holder_off", [False, True])
def test_caller_whose_key_is_revoked_is_refused_and_its_batches_go_on_with_its_permissions(
    key_off: bool, holder_off: bool
) -> None:
    caller = Caller("team", models=("chat",))
    ring = KeyRing([KeyHolder(caller, (a_key(FIRST, disabled=key_off),), disabled=holder_off)])
    assert isinstance(bearer(ring, FIRST), Problem) is (key_off or holder_off)
    assert ring.named("team") == caller


def test_caller_that_the_keys_no_longer_know_keeps_its_name_for_its_batches() -> None:
    assert a_ring(FIRST).named("gone") == Caller("gone")
