"""Bodies in pieces: every operation gives what it would give on the joined bytes."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.core.openai.wire.splice import Edit, in_order, spliced
from aibrix_extproc.rope import Rope, cut, rope_of

ropes = st.lists(
    st.binary(max_size=12)
    | st.binary(max_size=12).map(bytearray)
    | st.binary(max_size=12).map(lambda data: memoryview(data))
).map(rope_of)


@given(ropes, st.lists(st.integers(0, 100), max_size=6))
def test_parts_are_those_of_the_joined_bytes(rope: Rope, bounds: list[int]) -> None:
    whole = rope.joined()
    assert len(rope) == len(whole) == rope.size
    at = sorted(min(bound, len(whole)) for bound in bounds)
    assert [b"".join(part) for part in cut(rope, *at)] == [whole[start:end] for start, end in itertools.pairwise(at)]


@given(ropes, st.integers(1, 20), st.integers(0, 60))
def test_slices_and_head_are_those_of_the_joined_bytes(rope: Rope, largest: int, size: int) -> None:
    slices = list(rope.slices(largest))
    assert b"".join(slices) == rope.joined()
    assert all(0 < len(piece) <= largest for piece in slices)
    assert rope.head(size) == rope.joined()[:size]


@given(ropes, st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60), st.binary(max_size=4)), max_size=4))
def test_edits_of_a_rope_are_those_of_its_bytes(rope: Rope, wanted: list[tuple[int, int, bytes]]) -> None:
    edits: list[Edit] = []
    end = 0
    for start, size, text in sorted(wanted):
        if start >= end and start + size <= len(rope):
            edits.append(Edit(start, start + size, text))
            end = start + size
    assert spliced(rope, in_order(edits)).joined() == spliced(rope.joined(), in_order(edits))
