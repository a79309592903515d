"""Cache events of engines: both layouts, what is skipped and refused; and the blocks of ours that they speak of."""

from contextlib import suppress
from typing import Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.core.openai.wire.prefix import PrefixChain
from aibrix_extproc.core.routing.prefix.events import (
    MAX_EVENTS,
    AllBlocksCleared,
    BlockRemoved,
    BlockStored,
    UnreadableEvents,
    read_events,
)
from aibrix_extproc.core.routing.prefix.index import PrefixIndex
from aibrix_extproc.core.routing.prefix.residency import MAX_BLOCKS, MAX_SESSIONS, Residency

CHAIN: Final = PrefixChain((11, 12, 13), (100, 200, 260))
STORED: Final = {
    "type": "BlockStored", "block_hashes": [1, 2], "parent_block_hash": None, "token_ids": list(range(32)),
    "block_size": 16, "lora_id": None, "medium": "GPU", "lora_name": None, "extra_keys": [["salt"]], "group_idx": 0,
    "kv_cache_spec_kind": "full_attention", "session_id": "req-1",
}  # fmt: skip


def message(*events: object) -> bytes:
    return msgspec.msgpack.encode([1.5, list(events), 0])


def a_residency() -> tuple[Residency, PrefixIndex]:
    index = PrefixIndex()
    return Residency(index, "e"), index


def cached(index: PrefixIndex, chain: PrefixChain = CHAIN) -> int:
    return index.cached(PrefixChain(chain.hashes, chain.ends)).of("e")


def test_events_of_today_are_maps_and_those_of_older_engines_arrays() -> None:
    events = read_events(
        message(
            STORED,
            ["BlockStored", [3, b"\x01"], 2, [1, 2], 16, None, "GPU"],
            ["BlockRemoved", [1]],
            {"type": "BlockRemoved", "block_hashes": [2**63 + 1], "medium": "GPU"},
            ["AllBlocksCleared"],
        )
    )

    assert events == [
        BlockStored(block_hashes=[1, 2], block_size=16, medium="GPU", group_idx=0, session_id="req-1"),
        BlockStored(block_hashes=[3, b"\x01"], parent_block_hash=2, block_size=16, medium="GPU"),
        BlockRemoved(block_hashes=[1]),
        BlockRemoved(block_hashes=[2**63 + 1], medium="GPU"),
        AllBlocksCleared(),
    ]


def test_types_that_are_not_known_and_other_media_are_skipped() -> None:
    others = {**STORED, "medium": "CPU"}, {**STORED, "group_idx": 1}, {"type": "New"}, ["New", 1]

    assert read_events(message(*others, {"type": "AllBlocksCleared"})) == [AllBlocksCleared()]


@pytest.mark.parametrize(
    "broken",
    [
        b"", b"\xc1", message(5), message([]), message({"no": 1}), message({**STORED, "block_hashes": "x"}),
        message(*[["AllBlocksCleared"]] * (MAX_EVENTS + 1)), msgspec.msgpack.encode([1.0]),
    ],
    ids=["empty", "no-msgpack", "number", "no-type", "no-type-in-map", "wrong-member", "flood", "no-events"],
)  # fmt: skip
def test_what_cannot_be_read_says_so(broken: bytes) -> None:
    with pytest.raises(UnreadableEvents):
        read_events(broken)


@given(st.binary(max_size=200))
def test_no_message_raises_anything_else(garbage: bytes) -> None:
    for text in (garbage, message(STORED)[:60] + garbage):
        with suppress(UnreadableEvents):
            read_events(text)


def test_blocks_of_a_prompt_are_known_once_the_engine_has_stored_them_and_until_it_removes_them() -> None:
    residency, index = a_residency()
    residency.placed("req-1", CHAIN, 4.0)
    residency.take(BlockStored(block_hashes=[1, 2], block_size=16, session_id="req-1"))  # 128 bytes of text
    assert cached(index) == 100

    residency.take(BlockStored(block_hashes=[3, 4], parent_block_hash=2, block_size=16, session_id="req-1"))
    assert cached(index) == 200
    residency.take(BlockStored(block_hashes=[5], parent_block_hash=4, block_size=16, session_id="req-1"))
    assert cached(index) == 260

    residency.take(BlockRemoved(block_hashes=[5]))
    assert cached(index) == 200
    residency.take(BlockRemoved(block_hashes=[2]))
    assert cached(index) == 0


def test_a_prompt_that_goes_on_from_blocks_of_another_one_follows_its_parent() -> None:
    residency, index = a_residency()
    longer = PrefixChain((*CHAIN.hashes[:2], 23, 24), (100, 200, 300, 400))
    residency.placed("req-1", CHAIN, 4.0)
    residency.placed("req-2", longer, 4.0)
    residency.take(BlockStored(block_hashes=[1, 2, 3, 4], block_size=16, session_id="req-1"))
    residency.take(BlockStored(block_hashes=[6, 7, 8], parent_block_hash=4, block_size=16, session_id="req-2"))

    assert cached(index, longer) == 400
    residency.take(BlockRemoved(block_hashes=[7]))
    assert cached(index, longer) == 300


def test_blocks_of_others_are_followed_but_say_nothing_of_our_prompts() -> None:
    residency, index = a_residency()
    residency.take(BlockStored(block_hashes=[1, 2], block_size=16, session_id="of-another-gateway"))
    residency.take(BlockStored(block_hashes=[9], parent_block_hash=7, block_size=16, session_id="req-1"))
    residency.take(BlockRemoved(block_hashes=[1, 77]))

    assert index.blocks("e") == 0


@pytest.mark.parametrize("ends", ["cleared", "gap"])
def test_a_cache_that_is_cleared_or_no_longer_known_has_nothing(ends: str) -> None:
    residency, index = a_residency()
    residency.placed("req-1", CHAIN, 4.0)
    residency.take(BlockStored(block_hashes=[1, 2, 3, 4], block_size=16, session_id="req-1"))
    if ends == "cleared":
        residency.take(AllBlocksCleared())
    else:
        residency.lost()

    assert cached(index) == 0


def test_a_flood_is_followed_in_bounded_memory() -> None:
    residency, index = a_residency()
    for number in range(MAX_SESSIONS + 1):
        residency.placed(f"req-{number}", CHAIN, 4.0)
    residency.take(BlockStored(block_hashes=list(range(MAX_BLOCKS + 99)), block_size=16, session_id="req-7"))
    residency.take(BlockStored(block_hashes=[-1], block_size=16, session_id="req-0"))  # forgotten

    assert cached(index) in (0, 260)
    assert len(residency) <= MAX_BLOCKS
