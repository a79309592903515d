"""Which header blocks leave the peer's table as it is, and so mean the same when they come again."""

from contextlib import suppress

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.http2.errors import ProtocolError
from aibrix_extproc.http2.frames import ErrorCode
from aibrix_extproc.http2.header_blocks import MAX_REMEMBERED, HeaderBlocks
from aibrix_extproc.http2.hpack_scan import has_more_fields, leaves_table
from aibrix_extproc.http2.limits import ConnectionLimits

# The second call of a real Envoy: `:path` as a literal that shall not be indexed, everything else by index.
ENVOYS = bytes.fromhex("8304a560b5773fa5d05b3b98855cbe5315761c8bf7657c1e525b2a1d1aec390a841ec635d8721508c286c1c0bfbe")


class CountingTable(hpack.table.HeaderTable):
    """A table that knows how often it was changed."""

    def __init__(self) -> None:
        super().__init__()
        self.changes = 0

    def add(self, name: bytes, value: bytes) -> None:
        self.changes += 1
        super().add(name, value)


@pytest.mark.parametrize(
    ("block", "leaves"),
    [
        pytest.param(ENVOYS, True, id="Envoy's second call"),
        pytest.param(b"", True, id="nothing"),
        pytest.param(b"\x82\xbe", True, id="indexed"),
        pytest.param(b"\x00\x01a\x01b", True, id="literal that is not indexed"),
        pytest.param(b"\x10\x01a\x01b\x14\x01/", True, id="literals that are never indexed"),
        pytest.param(b"\x82\x40\x01a\x01b", False, id="literal that joins the table"),
        pytest.param(b"\x44\x01/", False, id="literal with a known name that joins the table"),
        pytest.param(b"\x20\x82", False, id="size update"),
        pytest.param(b"\xff\x00", False, id="index of two octets"),
        pytest.param(b"\x0f\x10\x01a", False, id="name index of two octets"),
        pytest.param(b"\x00\x01a\x7f\x00" + bytes(127), False, id="length of two octets"),
    ],
)
def test_block_is_told_apart_by_what_it_does_to_the_table(block: bytes, leaves: bool) -> None:
    assert leaves_table(block) is leaves


_FIELDS = st.lists(
    st.tuples(
        st.sampled_from([b":path", b"te", b"x-a", b"x-b", b"content-type"]),
        st.sampled_from([b"", b"trailers", b"application/grpc", b"/", b"v" * 126, b"#" * 200]),
        st.booleans(),
    ),
    max_size=6,
)


@given(blocks=st.lists(_FIELDS, min_size=1, max_size=8), huffman=st.booleans())
def test_block_that_leaves_the_table_never_changes_it(
    blocks: list[list[tuple[bytes, bytes, bool]]], huffman: bool
) -> None:
    encoder, decoder = hpack.Encoder(), hpack.Decoder()
    decoder.header_table = table = CountingTable()
    for fields in blocks:
        kinds = [(hpack.NeverIndexedHeaderTuple if never else hpack.HeaderTuple)(n, v) for n, v, never in fields]
        block, before = encoder.encode(kinds, huffman=huffman), table.changes
        decoder.decode(block, raw=True)
        assert not (leaves_table(block) and table.changes > before)


def test_block_is_decoded_once_while_the_table_rests() -> None:
    blocks = HeaderBlocks(ConnectionLimits())
    joins, again = b"\x82\x40\x01a\x01b", b"\x82\xbe"
    blocks.decode(joins)
    assert blocks.decode(again) is blocks.decode(again)
    first = blocks.decode(again)
    blocks.decode(joins)
    assert blocks.decode(again) is not first


def test_remembering_goes_on_after_many_different_blocks() -> None:
    blocks = HeaderBlocks(ConnectionLimits())
    for number in range(3 * MAX_REMEMBERED):
        block = b"\x00\x01a\x03%03d" % number
        assert blocks.decode(block) is blocks.decode(block)


@given(fields=_FIELDS, huffman=st.booleans(), updates=st.integers(0, 3), more=st.integers(0, 9))
def test_fields_of_a_block_are_counted_as_hpack_finds_them(
    fields: list[tuple[bytes, bytes, bool]], huffman: bool, updates: int, more: int
) -> None:
    encoder = hpack.Encoder()
    kinds = [(hpack.NeverIndexedHeaderTuple if never else hpack.HeaderTuple)(n, v) for n, v, never in fields]
    block = b"\x3f\xe1\x1f" * updates + encoder.encode(kinds, huffman=huffman) + encoder.encode(kinds, huffman=huffman)
    assert has_more_fields(block, more) is (updates + 2 * len(fields) > more)


@given(st.binary(max_size=300), st.integers(0, 300))
def test_fields_of_any_bytes_are_counted_without_a_surprise(block: bytes, most: int) -> None:
    with suppress(ProtocolError):
        assert not has_more_fields(block, most) or len(block) > most


MOST = ConnectionLimits().header_fields
FILLED = b"\x40\x01a\x01b"  # makes an entry of the table that one byte names: 0xbe


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(b"\xbe" * (MOST + 1), id="indexed"),
        pytest.param(b"\x82" * 10_000, id="of the static table"),
        pytest.param(b"\x00\x01a\x01b" * (MOST + 1), id="literals"),
        pytest.param(FILLED * (MOST + 1), id="literals that join the table"),
        pytest.param(b"\x20" * (MOST + 1), id="updates of the table's size"),
    ],
)
def test_block_of_many_fields_is_refused_before_it_is_decoded(block: bytes) -> None:
    blocks = HeaderBlocks(ConnectionLimits())
    blocks.decode(FILLED)
    done = blocks.work
    with pytest.raises(ProtocolError) as refused:
        blocks.decode(block)
    assert refused.value.code is ErrorCode.ENHANCE_YOUR_CALM
    assert blocks.work == done


@pytest.mark.parametrize("start", [b"\xff", b"\x3f", b"\x00\x7f", b"\x00\x01a\x7f", b"\x0f", b"\x7f"])
def test_number_that_does_not_end_is_refused_without_arithmetic_on_it(start: bytes) -> None:
    with pytest.raises(ProtocolError) as refused:
        HeaderBlocks(ConnectionLimits()).decode(start + b"\x80" * 16_000)
    assert refused.value.code is ErrorCode.COMPRESSION_ERROR


def test_work_is_what_was_decoded_and_nothing_for_what_is_remembered() -> None:
    blocks = HeaderBlocks(ConnectionLimits())
    blocks.decode(FILLED)
    blocks.work = 0
    for _ in range(3):
        blocks.decode(b"\xbe" * 100)
    assert blocks.work == 100 + 100 // 16
