"""Mutated conversations: whatever comes, nothing is thrown, memory is bounded, calls end once, the last word is GOAWAY.

The normal run takes a few thousand frames; a million are in a test marked slow.
"""

import asyncio
import gc
import logging
import random
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any, Final

import hpack
import pytest
from hyperframe.frame import Frame, GoAwayFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from aibrix_extproc.http2.limits import MIB, ConnectionLimits
from tests.http2 import wire
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
FEW, MANY = 20_000, 1_000_000
ORDERS: Final = (b"hello", b"wait", b"break", b"refuse", b"silence", b"finish", b"", b"x" * 3_000)


def _recorded(dice: random.Random) -> list[bytes]:
    """The frames of a conversation that makes sense."""
    encoder = hpack.Encoder()
    frames = [wire.settings({4: dice.choice((0, 100, 65_535))})]
    for stream in range(1, 2 * dice.randrange(1, 8), 2):
        path = dice.choice((wire.ECHO, wire.ECHO, wire.ECHO, "/nothing"))
        block = encoder.encode([(name, path if name == ":path" else value) for name, value in wire.REQUEST])
        if dice.random() < 0.2:
            frames += [wire.begun(stream, block[:7]), wire.continued(stream, block[7:], last=True)]
        else:
            frames.append(wire.headers(stream, block))
        body = b"".join(wire.message(dice.choice(ORDERS)) for _ in range(dice.randrange(4)))
        border = dice.randrange(len(body) + 1)
        frames += [wire.data(stream, body[:border]), wire.data(stream, body[border:], padding=dice.choice((None, 9)))]
        frames.append(
            dice.choice((wire.reset(stream), wire.data(stream, end=True), wire.window_update(stream, 999), b""))
        )
        frames.append(dice.choice((wire.ping(), wire.window_update(0, 999), wire.settings(ack=True), b"", b"")))
    return [frame for frame in frames if frame]


def _flip(dice: random.Random, frames: list[bytes]) -> None:
    at = dice.randrange(len(frames))
    frame = bytearray(frames[at])
    for _ in range(dice.choice((1, 1, 2, 8))):
        frame[dice.randrange(len(frame))] ^= 1 << dice.randrange(8)
    frames[at] = bytes(frame)


def _reframe(dice: random.Random, frames: list[bytes]) -> None:
    """Another type, other flags, another stream; a length that is right."""
    at = dice.randrange(len(frames))
    kind, flags = dice.choice((*range(11), frames[at][3])), dice.choice((*range(64), frames[at][4]))
    frames[at] = wire.raw(kind, flags, dice.choice((0, 1, 2, 3, 5, 7, 2**31 - 1)), frames[at][9:])


def _swap(dice: random.Random, frames: list[bytes]) -> None:
    a, b = dice.randrange(len(frames)), dice.randrange(len(frames))
    frames[a], frames[b] = frames[b], frames[a]


def _repeat(dice: random.Random, frames: list[bytes]) -> None:
    frames.insert(dice.randrange(len(frames)), dice.choice(frames))


def _lose(dice: random.Random, frames: list[bytes]) -> None:
    if len(frames) > 1:
        del frames[dice.randrange(len(frames))]


def _deframe(dice: random.Random, frames: list[bytes]) -> None:
    at = dice.randrange(len(frames))
    payload = frames[at][9 : 9 + dice.randrange(len(frames[at]))]
    frames[at] = wire.raw(frames[at][3], frames[at][4], int.from_bytes(frames[at][5:9], "big"), payload)


def _invent(dice: random.Random, frames: list[bytes]) -> None:
    payload = dice.randbytes(dice.choice((0, 1, 4, 5, 6, 8, 50)))
    frames.insert(
        dice.randrange(len(frames)), wire.raw(dice.randrange(12), dice.randrange(256), dice.randrange(9), payload)
    )


MUTATIONS: Final[tuple[Callable[[random.Random, list[bytes]], None], ...]] = (
    _flip, _flip, _reframe, _swap, _repeat, _lose, _deframe, _invent,
)  # fmt: skip


def _mutated(dice: random.Random) -> list[bytes]:
    frames = _recorded(dice)
    for _ in range(dice.choice((1, 1, 2, 5))):
        dice.choice(MUTATIONS)(dice, frames)
    return frames


def _play(dice: random.Random) -> int:
    """One mutated conversation; how many frames it had."""
    frames = _mutated(dice)
    stream = wire.PREFACE + b"".join(frames)
    if dice.random() < 0.05:
        stream = stream[dice.randrange(30) :]
    talk = Talk(SMALL, greet=False)
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
        assert talk.goodbye in range(1, 14)
        assert talk.connection.fault
    talk.connection.lost()
    assert talk.connection.streams == 0
    assert talk.calls.memory.buffered == 0
    assert len(talk.log.causes) == talk.log.opened
    for frame in talk.reader.frames:
        assert isinstance(frame, Frame)


async def test_thousands_of_mutated_frames_do_no_harm() -> None:
    dice = random.Random(20261123)
    frames = 0
    while frames < 6_000:
        frames += _play(dice)


async def _play_over_a_socket(dice: random.Random, port: int) -> None:
    """One mutated conversation in two pieces, and one of the ways in which peers part."""
    stream = wire.PREFACE + b"".join(_mutated(dice))
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
        assert served.log.opened == len(served.log.causes) > 300


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
async def test_million_mutated_frames_do_no_harm_and_leave_nothing_behind(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="aibrix_extproc")  # or pytest would keep a line for each bug of a handler
    dice = random.Random(1)
    frames = await _play_until(0, dice, FEW)
    after_some = _blocks()
    frames = await _play_until(frames, dice, MANY - FEW)
    assert _blocks() < after_some + (MANY - FEW) // 100  # a leak would be one for each conversation: of fifteen frames
    tracemalloc.start()
    try:
        await _play_until(frames, dice, MANY)
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
async def test_anything_at_all_does_no_harm(said: bytes, greet: bool, size: int) -> None:
    talk = Talk(SMALL, greet=greet)
    for at in range(0, len(said), size):
        talk.say(said[at : at + size])
    _check_end(talk)


@given(st.binary(max_size=300))
@settings(max_examples=300)
async def test_any_header_block_does_no_harm(block: bytes) -> None:
    talk = Talk(SMALL).say(
        wire.headers(1, block, end=True), wire.request(3), wire.data(3, wire.message(b"hello"), end=True)
    )
    if talk.goodbye is None:
        assert talk.answer(3).messages == (b"hello",)
    else:
        assert talk.goodbye in (wire.COMPRESSION_ERROR, wire.CALM)
    _check_end(talk)
