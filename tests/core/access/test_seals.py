"""Seals of notes: which are accepted, and that each one is used once."""

import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.core.access.replays import PAGE_BITS, Use, UsedSeals
from aibrix_extproc.core.access.seals import Seal, SealKey, opened, sealed

KEY, OTHER = SealKey(b"k" * 32), SealKey(b"o" * 32)
NOTES: dict[str, str | bool] = {
    "request_id": "1f0c9a52-0000-4000-8000-000000000001", "operation": "chat_completion", "model": "m", "caller": "me",
    "stream": "data_done", "hide_usage": True,
}  # fmt: skip
SEAL = Seal(1_800_000_000, 2**63 + 5, 7)


def seal_of(notes: dict[str, str | bool], key: SealKey = KEY) -> str:
    return sealed(key, tuple(notes.items()), SEAL)


def test_seal_opens_with_any_of_the_keys_and_in_any_order_of_notes() -> None:
    shuffled = dict(reversed(NOTES.items()))
    assert opened((OTHER, KEY), shuffled, seal_of(NOTES)) == SEAL
    assert len(seal_of(NOTES)) == 48


def test_seal_of_an_unknown_key_does_not_open() -> None:
    assert opened((KEY,), NOTES, seal_of(NOTES, OTHER)) is None
    assert opened((), NOTES, seal_of(NOTES)) is None


@given(st.binary(min_size=1, max_size=200), st.binary(max_size=300))
def test_mac_is_hmac_sha256(secret: bytes, content: bytes) -> None:
    assert SealKey(secret).mac(content) == hmac.digest(secret, content, "sha256")


@pytest.mark.parametrize("name", NOTES)
def test_changed_note_breaks_the_seal(name: str) -> None:
    for changed in ("x", "", not NOTES[name], f"{NOTES[name]} "):
        assert opened((KEY,), NOTES | {name: changed}, seal_of(NOTES)) is None
    assert opened((KEY,), {key: value for key, value in NOTES.items() if key != name}, seal_of(NOTES)) is None


def test_further_note_breaks_the_seal() -> None:
    assert opened((KEY,), NOTES | {"tokens": "5"}, seal_of(NOTES)) is None


def test_text_cannot_move_from_one_note_to_the_next() -> None:
    assert opened((KEY,), NOTES | {"caller": "m", "model": "e"}, seal_of(NOTES | {"caller": "me", "model": ""})) is None
    moved: dict[str, str | bool] = {"a": 'b","c', "d": "e"}
    assert opened((KEY,), {"a": "b", "c": "d"}, sealed(KEY, tuple(moved.items()), SEAL)) is None


@given(st.integers(0, 47), st.sampled_from("Aa0+/=_ \0é\ud800"))
def test_changed_seal_does_not_open(place: int, character: str) -> None:
    seal = seal_of(NOTES)
    changed = seal[:place] + character + seal[place + 1 :]
    assert (opened((KEY,), NOTES, changed) == SEAL) is (changed == seal)


@given(st.text(max_size=80))
def test_no_text_raises(text: str) -> None:
    assert opened((KEY,), NOTES, text) is None


@given(st.text(), st.text())
def test_any_text_may_be_a_note(model: str, caller: str) -> None:
    notes: dict[str, str | bool] = {"model": model, "caller": caller}
    try:
        seal = seal_of(notes)
    except UnicodeEncodeError:  # lone surrogates, which protobuf refuses too
        return
    assert opened((KEY,), notes, seal) == SEAL


def test_seal_is_used_once() -> None:
    used = UsedSeals()
    assert used.use(SEAL) is Use.FIRST
    assert used.use(SEAL) is Use.REPEATED
    assert used.use(Seal(SEAL.wall_at, SEAL.issuer, SEAL.number + 1)) is Use.FIRST
    assert used.use(Seal(SEAL.wall_at, SEAL.issuer + 1, SEAL.number)) is Use.FIRST
    assert used.use(Seal(SEAL.wall_at + 1, SEAL.issuer, SEAL.number)) is Use.REPEATED


def at(wall_at: int, page: int, number: int = 0) -> Seal:
    return Seal(wall_at, 1, (page << PAGE_BITS) + number)


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
