"""Sealed texts: which are accepted, and that each one is used once."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from aibrix_extproc.core.access.replays import PAGE_BITS, Use, UsedSeals
from aibrix_extproc.core.access.seals import SealedPlacement, SealKey, opened, sealed

KEY, OTHER = SealKey(b"k" * 32), SealKey(b"o" * 32)
PLACED = SealedPlacement(
    1_800_000_000, 2**63 + 5, 7, "1f0c9a52-0000-4000-8000-000000000001", "chat_completion", "m", "me", "data_done"
)
SEALED = sealed(KEY, PLACED)


def test_text_opens_with_any_of_the_keys() -> None:
    assert opened((OTHER, KEY), SEALED) == PLACED
    assert opened((KEY, OTHER), SEALED) == PLACED


def test_text_of_an_unknown_key_does_not_open() -> None:
    assert opened((KEY,), sealed(OTHER, PLACED)) is None
    assert opened((), SEALED) is None


@given(st.binary(max_size=60))
def test_content_opens_with_the_key_that_sealed_it_and_for_its_purpose_alone(content: bytes) -> None:
    purpose = b"another use"
    key = SealKey(b"k" * 32, purpose)
    assert key.open(key.seal(content)) == content
    for other in (KEY, SealKey(b"o" * 32, purpose)):
        assert other.open(key.seal(content)) is None
    assert key.open(content) is None


def test_text_says_what_it_seals() -> None:
    assert json.loads(SEALED[24:]) == [
        1_800_000_000, 2**63 + 5, 7, "1f0c9a52-0000-4000-8000-000000000001", "chat_completion", "m", "me", "data_done",
        "", "", "", "",
    ]  # fmt: skip


@given(st.binary(max_size=200), st.binary(max_size=300))
def test_code_is_keyed_blake2b_of_a_key_of_its_own(secret: bytes, content: bytes) -> None:
    person = b"aibrix note 2"
    key = hashlib.blake2b(secret, person=person).digest()
    wanted = hashlib.blake2b(content, key=key, digest_size=18, person=person).digest()
    code = SealKey(secret).mac(content)
    assert len(code) == 24
    assert int.from_bytes(wanted) == int.from_bytes(base64_bytes(code))


def base64_bytes(text: bytes) -> bytes:
    """Read without the library that wrote it."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    bits = "".join(f"{alphabet.index(chr(one)):06b}" for one in text)
    return int(bits, 2).to_bytes(len(bits) // 8)


@given(st.integers(0, len(SEALED) - 1), st.integers(0, 255))
def test_changed_text_does_not_open(place: int, byte: int) -> None:
    changed = SEALED[:place] + bytes((byte,)) + SEALED[place + 1 :]
    assert (opened((KEY,), changed) == PLACED) is (changed == SEALED)


@pytest.mark.parametrize("change", [{"caller": "m", "model": "e"}, {"number": 8}, {"stream": ""}], ids=str)
def test_code_of_one_text_is_not_that_of_another(change: dict[str, object]) -> None:
    other = sealed(KEY, replace(PLACED, **change))
    assert opened((KEY,), other[:24] + SEALED[24:]) is None
    assert opened((KEY,), SEALED[:24] + other[24:]) is None


@given(st.binary(max_size=80))
def test_no_text_raises(text: bytes) -> None:
    assert opened((KEY,), text) is None
    assert opened((KEY,), KEY.mac(text) + text) is None


@given(st.text(), st.text())
def test_any_text_may_be_a_name(model: str, caller: str) -> None:
    placed = replace(PLACED, model=model, caller=caller)
    try:
        text = sealed(KEY, placed)
    except UnicodeEncodeError:  # lone surrogates, which protobuf refuses too
        return
    assert opened((KEY,), text) == placed


def at(wall_at: int, page: int, number: int = 0) -> SealedPlacement:
    return replace(PLACED, wall_at=wall_at, issuer=1, number=(page << PAGE_BITS) + number)


def test_seal_is_used_once() -> None:
    used = UsedSeals()
    assert used.use(PLACED) is Use.FIRST
    assert used.use(PLACED) is Use.REPEATED
    assert used.use(replace(PLACED, number=PLACED.number + 1)) is Use.FIRST
    assert used.use(replace(PLACED, issuer=PLACED.issuer + 1)) is Use.FIRST
    assert used.use(replace(PLACED, wall_at=PLACED.wall_at + 1)) is Use.REPEATED


def test_memory_is_bounded_and_never_takes_a_seal_of_a_dropped_page_for_new() -> None:
    used = UsedSeals(max_pages=2)
    assert used.use(at(10, 0)) is Use.FIRST
    assert used.use(at(20, 1)) is Use.FIRST
    assert used.use(at(30, 2)) is Use.FIRST  # drops page 0, whose latest seal is of 10
    assert used.use(at(10, 0)) is Use.FORGOTTEN
    assert used.use(at(9, 0, 5)) is Use.FORGOTTEN
    assert used.use(at(11, 0, 6)) is Use.FIRST  # page 0 again, in place of page 1: what it has forgotten stays refused
    assert used.use(at(10, 0)) is Use.FORGOTTEN
    assert used.use(at(20, 1)) is Use.FORGOTTEN
    assert used.use(at(30, 2)) is Use.REPEATED


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 5), st.integers(0, 2)), max_size=200))
def test_no_seal_is_ever_used_twice(uses: list[tuple[int, int, int]]) -> None:
    used, times = UsedSeals(max_pages=2), dict[tuple[int, int], int]()
    first: set[tuple[int, int]] = set()
    for wall_at, page, number in uses:
        wall_at = times.setdefault((page, number), wall_at)  # a seal has one time
        if used.use(at(wall_at, page, number)) is Use.FIRST:
            assert (page, number) not in first
            first.add((page, number))


def test_text_of_an_earlier_version_opens_and_a_later_one_may_say_more() -> None:
    earlier = SEALED[24:].replace(b',"","",""]', b"]")
    assert opened((KEY,), KEY.mac(earlier) + earlier) == PLACED
    later = SEALED[24:-1] + b',"more",{}]'
    assert opened((KEY,), KEY.mac(later) + later) == PLACED


def test_exchange_has_one_id_for_all_replicas() -> None:
    assert PLACED.exchange_id == "8000000000000005-7"
