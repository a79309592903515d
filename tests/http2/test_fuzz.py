"""Mutated conversations: whatever comes, nothing is thrown, memory is bounded, calls end once, the last word is GOAWAY.

`make test` takes two hundred thousand frames, `make fuzz` a million. With the mutations of mutants.py the first hundred
thousand reach every branch and nearly every end of a connection that is ever reached.
"""

import asyncio
import gc
import logging
import random
import sys
import tracemalloc
from typing import Any, Final

import pytest
from hyperframe.frame import Frame, GoAwayFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from aibrix_extproc.http2.limits import MIB, ConnectionLimits
from tests.http2 import wire
from tests.http2.mutants import ORDERS, mutated
from tests.http2.rig import Talk, connected, on_both_loops, serving
from tests.waiting import until

SMALL: Final = ConnectionLimits(
    concurrent_streams=20,
    frame_bytes=30_000,
    stream_window=80_000,
    connection_window=200_000,
    buffered_bytes=100_000,
    unsent_bytes=100_000,
    frames_per_turn=16,
)
FEW = 20_000


def _play(dice: random.Random) -> int:
    """One mutated conversation; how many frames it had."""
    frames = mutated(dice)
    stream = wire.PREFACE + b"".join(frames)
    if dice.random() < 0.05:
        stream = stream[dice.randrange(30) :]
    talk = Talk(SMALL, handshake=False)
    at = 0
    while at < len(stream):
        size = dice.choice((1, 9, 50, 5_000, 5_000, 5_000))
        talk.say(stream[at : at + size])
        at += size
        if dice.random() < 0.1:
            talk.calls.check_progress()
            talk.read()
        assert talk.calls.memory.buffered <= SMALL.buffered_bytes + 2 * SMALL.stream_window
        assert talk.connection.streams <= SMALL.concurrent_streams
    _check_end(talk)
    return len(frames)


def _check_end(talk: Talk) -> None:
    if talk.connection.closing:
        assert isinstance(talk.reader.frames[-1], GoAwayFrame)
        assert talk.goaway in range(1, 14)
        assert talk.connection.close_reason
    talk.connection.lost()
    assert talk.connection.streams == 0
    assert talk.calls.memory.buffered == 0
    assert len(talk.log.outcomes) == talk.log.opened
    for frame in talk.reader.frames:
        assert isinstance(frame, Frame)


async def test_thousands_of_mutated_frames_do_no_harm() -> None:
    dice = random.Random(20261123)
    frames = 0
    while frames < 6_000:
        frames += _play(dice)


async def _play_over_a_socket(dice: random.Random, port: int) -> None:
    """One mutated conversation in two pieces, and one of the ways in which peers part."""
    stream = wire.PREFACE + b"".join(mutated(dice))
    border = dice.randrange(len(stream))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(stream[:border])
    await asyncio.sleep(0)
    writer.write(stream[border:])
    match dice.randrange(4):
        case 0:
            writer.transport.abort()
        case 1 if not writer.transport.is_closing():
            writer.write_eof()
        case 2:
            await reader.read(1_000)
    writer.close()


@pytest.mark.slow
@on_both_loops
async def test_mutated_conversations_over_sockets_raise_nothing_and_leave_nothing_behind() -> None:
    dice, raised = random.Random(20261124), list[dict[str, Any]]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))
    async with serving(SMALL) as served, connected(served.port) as good:
        for _ in range(300):
            await _play_over_a_socket(dice, served.port)
        good.say(wire.request(1), wire.data(1, wire.message(b"hello"), end=True))
        await good.hear(lambda: good.heard.ended(1))
        assert good.heard.answer(1).messages == (b"hello",)
        await until(lambda: served.server.connections == 1)
        assert raised == []
        assert (served.server.buffered, served.server.memory.unsent) == (0, 0)
        assert served.log.opened == len(served.log.outcomes) > 300


def _blocks() -> int:
    """Pieces of memory that are in use, of any kind and age."""
    gc.collect()
    return sys.getallocatedblocks()


async def _play_until(frames: int, dice: random.Random, most: int) -> int:
    while frames < most:
        frames += _play(dice)
        await asyncio.sleep(0)  # let what was cancelled go
    return frames


@pytest.mark.slow
@pytest.mark.parametrize("many", [50_000, pytest.param(1_000_000, marks=pytest.mark.fuzz)])
async def test_many_mutated_frames_do_no_harm_and_leave_nothing_behind(
    many: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, logger="aibrix_extproc")  # or pytest would keep a line for each bug of a handler
    dice = random.Random(1)
    frames = await _play_until(0, dice, FEW)
    after_some = _blocks()
    frames = await _play_until(frames, dice, many - FEW)
    assert _blocks() < after_some + (many - FEW) // 100  # a leak would be one for each conversation: of fifteen frames
    tracemalloc.start()
    try:
        await _play_until(frames, dice, many)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 * MIB


def _play_strategy() -> st.SearchStrategy[bytes]:
    """Bytes that are frames more often than not."""
    anything = st.builds(
        wire.raw,
        st.integers(0, 12),
        st.integers(0, 255),
        st.sampled_from((0, 1, 1, 2, 3, 5, 2**31 - 1)),
        st.binary(max_size=40),
    )
    sensible = st.builds(
        lambda stream, order, border: wire.request(stream) + wire.data(stream, wire.message(order)[:border]),
        st.sampled_from((1, 3, 5, 7)), st.sampled_from(ORDERS), st.integers(0, 60),
    )  # fmt: skip
    return st.lists(st.one_of(anything, sensible, st.binary(max_size=20)), max_size=12).map(b"".join)


@given(_play_strategy(), st.booleans(), st.integers(1, 60))
@settings(max_examples=300)
async def test_anything_at_all_does_no_harm(said: bytes, handshake: bool, size: int) -> None:
    talk = Talk(SMALL, handshake=handshake)
    for at in range(0, len(said), size):
        talk.say(said[at : at + size])
    _check_end(talk)


@given(st.binary(max_size=300))
@settings(max_examples=300)
async def test_any_header_block_does_no_harm(block: bytes) -> None:
    talk = Talk(SMALL).say(
        wire.headers(1, block, end=True), wire.request(3), wire.data(3, wire.message(b"hello"), end=True)
    )
    if talk.goaway is None:
        assert talk.answer(3).messages == (b"hello",)
    else:
        assert talk.goaway in (wire.COMPRESSION_ERROR, wire.CALM)
    _check_end(talk)
