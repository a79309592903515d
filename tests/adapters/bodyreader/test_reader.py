"""The reader of large bodies as a real process: right, bounded, and back after it died."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator

import pytest

from aibrix_extproc.adapters.bodyreader.reader import MAX_WAITING, BodyReader
from aibrix_extproc.core.exchange.asks import BodyRead, Refused
from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.wire.request import read_json
from aibrix_extproc.rope import Rope, rope_of
from tests.core.openai.wire.shapes import SHAPES
from tests.waiting import until

MIB = 1024 * 1024
BUSY = Refused(Problem("gateway_busy"))


@pytest.fixture
async def reader() -> AsyncIterator[BodyReader]:
    made = BodyReader(deadline_seconds=60.0)
    yield made
    made.stop()


def in_pieces(body: bytes, size: int = 16_384) -> Rope:
    return rope_of(body[at : at + size] for at in range(0, len(body), size))


def chat(size: int) -> bytes:
    return b'{"model":"m","messages":["%b"],"max_tokens":3}' % (b"x" * size)


async def test_it_reads_as_the_gateway_does(reader: BodyReader) -> None:
    wrong = []
    for shape, made in SHAPES.items():
        body = made(2 * MIB)
        if await reader.read(in_pieces(body), sizes=True) != BodyRead(read_json(body, sized=True)):
            wrong.append(shape)
    assert wrong == []


async def test_it_hashes_prompts_as_the_gateway_does(reader: BodyReader) -> None:
    wrong, seed = [], 2**64 - 1
    for shape, made in SHAPES.items():
        body = made(2 * MIB)
        read = await reader.read(in_pieces(body), sizes=False, prefix_seed=seed)
        if read != BodyRead(read_json(body, prefix_seed=seed)):
            wrong.append(shape)
    assert wrong == []


async def test_one_body_after_the_other_leaves_nothing_of_the_one_before(reader: BodyReader) -> None:
    for size in (5 * MIB, 1, 2 * MIB, 0, 3 * MIB):
        body = chat(size)
        assert await reader.read(in_pieces(body), sizes=False) == BodyRead(read_json(body))
    assert await reader.read(in_pieces(b'{"model":'), sizes=False) == BodyRead(Problem("malformed_json"))


async def test_process_that_dies_costs_its_body_a_503_and_the_next_one_nothing(reader: BodyReader) -> None:
    good = await reader.read(in_pieces(chat(MIB)), sizes=False)
    for _ in range(3):
        first = reader.pid
        assert first is not None
        os.kill(first, signal.SIGSTOP)
        reading = asyncio.ensure_future(reader.read(in_pieces(chat(MIB)), sizes=False))
        await asyncio.sleep(0)
        os.kill(first, signal.SIGKILL)
        assert await reading in (BUSY, good)  # it was noticed before or after the body was handed over
        assert await reader.read(in_pieces(chat(MIB)), sizes=False) == good
        assert reader.pid not in (None, first)


async def test_start_goes_on_when_the_body_that_began_it_has_left() -> None:
    reader = BodyReader(deadline_seconds=0.001)  # no process starts in that time
    try:
        assert await reader.read(in_pieces(chat(MIB)), sizes=False) == BUSY
        await until(lambda: reader.pid is not None)
        started, reader.deadline_seconds = reader.pid, 60.0
        assert await reader.read(in_pieces(chat(MIB)), sizes=False) == BodyRead(read_json(chat(MIB)))
        assert reader.pid == started
    finally:
        reader.stop()


async def test_process_that_ends_while_it_starts_costs_a_503(
    reader: BodyReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(sys, "executable", "/bin/false")
        assert await reader.read(in_pieces(chat(MIB)), sizes=False) == BUSY
    assert isinstance(await reader.read(in_pieces(chat(MIB)), sizes=False), BodyRead)


async def read_in_time(reader: BodyReader) -> BodyRead:
    """A process that was ended starts again later than a body can wait on a busy machine."""

    async def read() -> BodyRead | None:
        found = await reader.read(in_pieces(chat(MIB)), sizes=False)
        return found if isinstance(found, BodyRead) else None

    return await until(read)


async def test_process_that_hangs_is_given_up_at_the_deadline() -> None:
    reader = BodyReader(deadline_seconds=1.0)
    try:
        good = await read_in_time(reader)
        assert reader.pid is not None
        os.kill(reader.pid, signal.SIGSTOP)
        several = await asyncio.gather(*(reader.read(in_pieces(chat(MIB)), sizes=False) for _ in range(3)))
        assert several == [BUSY] * 3
        assert await read_in_time(reader) == good
        assert reader.waiting == 0
    finally:
        reader.stop()


async def test_what_waits_is_bounded_and_the_smallest_is_next(reader: BodyReader) -> None:
    await reader.read(in_pieces(b"{}"), sizes=False)
    order: list[int] = []

    async def read(size: int) -> BodyRead | Refused:
        found = await reader.read(in_pieces(chat(size)), sizes=False)
        if isinstance(found, BodyRead):
            order.append(size)
        return found

    sizes = [8 * MIB, 7 * MIB, 2, 3 * MIB, *range(3, MAX_WAITING - 1), 9, 9, 9]
    found = await asyncio.gather(*(read(size) for size in sizes))
    assert found.count(BUSY) == len(sizes) - MAX_WAITING
    assert found[-1] == BUSY
    assert order == [8 * MIB, *sorted(order[1:])]
    assert reader.waiting == 0


async def test_client_that_leaves_does_not_end_the_process(reader: BodyReader) -> None:
    good = await reader.read(in_pieces(chat(MIB)), sizes=False)
    process = reader.pid
    for turns in range(12):
        leaving = [asyncio.ensure_future(reader.read(in_pieces(chat(8 * MIB)), sizes=False)) for _ in range(3)]
        for _ in range(turns):
            await asyncio.sleep(0)
        for one in leaving:
            one.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        assert await reader.read(in_pieces(chat(MIB)), sizes=False) == good
    assert reader.pid == process
    assert reader.waiting == 0


async def test_it_does_not_outlive_the_gateway(reader: BodyReader) -> None:
    await reader.read(in_pieces(chat(MIB)), sizes=False)
    process = reader.pid
    assert process is not None
    reader.stop()
    await until(lambda: not _runs(process))


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
