"""Messages are the same wherever frames end."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.http2.deframer import Deframer, length_prefixed
from aibrix_extproc.http2.status import CallError, Status

MOST = 100


def deframed(pieces: list[bytes], most: int = MOST) -> tuple[list[bytes], Deframer]:
    deframer, found = Deframer(most, most), []
    for piece in pieces:
        start = 0
        while start < len(piece):
            message, start = deframer.next(piece, start, len(piece))
            if isinstance(message, bytes):
                found.append(message)
    return found, deframer


@given(st.lists(st.binary(max_size=20), max_size=6), st.lists(st.integers(0, 150), max_size=12))
def test_messages_are_the_same_in_any_pieces(messages: list[bytes], borders: list[int]) -> None:
    stream = b"".join(map(length_prefixed, messages))
    at = sorted({0, len(stream), *(border for border in borders if border < len(stream))})
    found, deframer = deframed([stream[start:end] for start, end in itertools.pairwise(at)])
    assert found == messages
    assert not deframer.unfinished
    assert deframer.buffered == 0


@given(st.binary(min_size=1, max_size=30), st.data())
def test_message_that_is_cut_short_is_unfinished(message: bytes, data: st.DataObject) -> None:
    stream = length_prefixed(message)
    size = data.draw(st.integers(1, len(stream) - 1))
    found, deframer = deframed([stream[:size]])
    assert found == []
    assert deframer.unfinished
    assert deframer.buffered <= size


@pytest.mark.parametrize(
    ("prefix", "status"),
    [
        (b"\x01\0\0\0\x01", Status.UNIMPLEMENTED),
        (b"\x02\0\0\0\x01", Status.INTERNAL),
        (b"\x00\0\0\0\x65", Status.RESOURCE_EXHAUSTED),
        (b"\x00\xff\xff\xff\xff", Status.RESOURCE_EXHAUSTED),
    ],
)
def test_message_is_refused_by_its_prefix_alone(prefix: bytes, status: Status) -> None:
    with pytest.raises(CallError) as refusal:
        deframed([prefix[:2], prefix[2:]])
    assert refusal.value.status is status


def test_announced_size_takes_no_memory_until_it_arrives() -> None:
    _, deframer = deframed([b"\x00\x7f\xff\xff\xff" + b"abc"], most=2**31)
    assert deframer.buffered == 3
