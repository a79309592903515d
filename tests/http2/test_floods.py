"""Floods: each is bounded in work and memory and ends its connection; a busy peer that means well is no flood."""

import asyncio
import itertools
import time
import tracemalloc
from collections.abc import Callable, Iterator

import hpack
import pytest

from aibrix_extproc.http2.limits import KIB, MIB, ConnectionLimits
from aibrix_extproc.http2.turn_work import MESSAGES_PER_TURN
from tests.http2 import wire
from tests.http2.rig import Talk
from tests.waiting import until

MOST_FRAMES = 50_000
HELLO = wire.message(b"hello")


def _rapid_reset() -> Iterator[bytes]:
    for stream in range(1, 10**6, 2):
        yield wire.request(stream) + wire.reset(stream)


def _rapid_reset_with_data() -> Iterator[bytes]:
    for stream in range(1, 10**6, 2):
        yield wire.request(stream) + wire.data(stream, b"\0") + wire.reset(stream)


def _malformed_requests() -> Iterator[bytes]:
    for stream in range(1, 10**6, 2):
        yield wire.request(stream, te="gzip")


def _broken_streams() -> Iterator[bytes]:
    for stream in range(1, 10**6, 2):
        yield wire.request(stream) + wire.window_update(stream, 0)


def _again(*said: bytes) -> Callable[[], Iterator[bytes]]:
    def flood() -> Iterator[bytes]:
        for _ in range(100_000):
            yield from said

    return flood


def _continuations() -> Iterator[bytes]:
    yield wire.begun(1, wire.block())
    while True:
        yield wire.continued(1, b"", last=False)


def _long_block() -> Iterator[bytes]:
    yield wire.begun(1, b"")
    while True:
        yield wire.continued(1, bytes(4 * KIB), last=False)


def _on_open_stream(said: bytes) -> Callable[[], Iterator[bytes]]:
    def flood() -> Iterator[bytes]:
        yield wire.request(1)
        yield from _again(said)()

    return flood


def _window_of_many_that_wait() -> Iterator[bytes]:
    yield wire.settings({4: 0})
    for stream in range(1, 2001, 2):
        yield wire.request(stream) + wire.data(stream, HELLO)
    while True:
        yield wire.window_update(1, 1) + wire.window_update(0, 1)


FLOODS: dict[str, Callable[[], Iterator[bytes]]] = {
    "rapid_reset": _rapid_reset,
    "rapid_reset_with_a_byte_of_data": _rapid_reset_with_data,
    "malformed_requests": _malformed_requests,
    "streams_that_break": _broken_streams,
    "settings": _again(wire.settings({4: 65_536}), wire.settings({4: 65_535})),
    "settings_acks": _again(wire.settings(ack=True)),
    "pings": _again(wire.ping()),
    "ping_acks": _again(wire.ping(ack=True)),
    "priorities": _again(wire.raw(2, 0, 1, b"\0\0\0\x03\0")),
    "unknown_frames": _again(wire.raw(0x99, 0, 0, b"")),
    "goaways": _again(wire.go_away()),
    "windows_of_the_connection": _again(wire.window_update(0, 1)),
    "windows_of_a_stream": _on_open_stream(wire.window_update(1, 1)),
    "windows_while_many_wait": _window_of_many_that_wait,
    "empty_data": _on_open_stream(wire.data(1)),
    "padding_alone": _on_open_stream(wire.data(1, padding=255)),
    "data_for_a_stream_that_is_over": lambda: iter((wire.request(1) + wire.reset(1), *_again(wire.data(1))())),
    "resets_of_a_stream_that_is_over": lambda: iter((wire.request(1) + wire.reset(1), *_again(wire.reset(1))())),
    "endless_continuations": _continuations,
    "endless_block": _long_block,
}


@pytest.mark.parametrize("name", FLOODS)
async def test_flood_ends_the_connection_with_its_code_within_bounds(name: str) -> None:
    talk = Talk(ConnectionLimits(unanswered_streams=2_000))
    frames = FLOODS[name]()
    tracemalloc.start()
    started, sent = time.process_time(), 0
    try:
        while talk.goaway is None and sent < MOST_FRAMES:
            talk.calls.connection.receive(next(frames), talk.now)
            talk.now += 1e-6  # a million a second
            sent += 1
            if talk.connection.closing or sent % 5000 == 0:
                talk.read()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert talk.goaway == wire.CALM
    assert len(talk.log.outcomes) == talk.log.opened
    assert peak < 64 * MIB
    assert time.process_time() - started < 30  # with every allocation traced


@pytest.mark.parametrize(
    ("encoded", "code"),
    [
        (wire.block((*wire.REQUEST, ("x", "a" * 40_000))), wire.CALM),
        (wire.block((*wire.REQUEST, *((f"x-{number}", "") for number in range(1000)))), wire.CALM),
        (hpack.Encoder().encode([(":path", "0" * 30_000)]), wire.CALM),
        (b"\x40\x01a\x7f\x80\x08" + b"b" * 1151 + b"\xbe" * 8_000, wire.CALM),
        (wire.settings(dict.fromkeys(range(10, 40), 1))[9:], wire.COMPRESSION_ERROR),
    ],
    ids=["a_long_value", "many_fields", "much_huffman_code", "bomb_of_indexes", "no_block"],
)
async def test_oversized_headers_end_the_connection(encoded: bytes, code: int) -> None:
    talk = Talk()
    started = time.process_time()
    talk.say(wire.headers(1, encoded))
    assert talk.goaway == code
    assert time.process_time() - started < 0.2


async def test_settings_with_hundreds_of_entries_end_the_connection() -> None:
    assert Talk().say(wire.settings(dict.fromkeys(range(10, 200), 1))).goaway == wire.CALM


async def test_slow_flood_is_within_the_rate_and_is_borne() -> None:
    talk = Talk()
    for _ in range(10_000):
        talk.now += 1 / 100
        talk.say(wire.ping())
    assert talk.goaway is None


@pytest.mark.slow
async def test_busy_peer_that_resets_half_of_its_streams_is_no_flood() -> None:
    """An Envoy at 5,000 streams a second: three messages, an answer to each, then CANCEL for every second one."""
    talk = Talk()
    for stream in range(1, 10_001, 2):
        talk.now += 1 / 5_000
        talk.calls.connection.receive(wire.request(stream) + 3 * wire.data(stream, HELLO), talk.now)
        over = wire.reset(stream) if stream % 4 == 1 else wire.data(stream, end=True)
        talk.calls.connection.receive(over, talk.now)
        talk.connection.take()
    talk.read()
    assert talk.goaway is None
    assert talk.log.opened == len(talk.log.outcomes) == 5_000


@pytest.mark.slow
async def test_busy_peer_with_a_ping_and_two_windows_for_each_answer_is_no_flood() -> None:
    talk = Talk()
    for stream in range(1, 10_001, 2):
        talk.now += 1 / 5_000
        talk.calls.connection.receive(wire.request(stream) + wire.data(stream, HELLO), talk.now)
        thanks = wire.ping() + wire.window_update(0, 10) + wire.window_update(stream, 10)
        talk.calls.connection.receive(thanks + wire.data(stream, end=True), talk.now)
        talk.connection.take()
    talk.read()
    assert talk.goaway is None


@pytest.mark.slow
async def test_mass_of_clients_that_give_up_before_they_were_answered_is_no_flood() -> None:
    talk, streams = Talk(), range(1, 10_001, 2)
    for stream in streams:
        talk.connection.receive(wire.request(stream) + wire.data(stream, wire.message(b"silence")), talk.now)
    for stream in streams:
        talk.connection.receive(wire.reset(stream), talk.now)
    talk.read()
    assert talk.goaway is None
    assert len(talk.log.outcomes) == 5_000


async def test_peer_that_takes_no_answers_is_cut_off() -> None:
    talk = Talk(ConnectionLimits(unsent_bytes=1 * MIB)).say(wire.settings({4: 0}))
    for stream in range(1, 201, 2):
        talk.say(wire.request(stream), wire.data(stream, wire.message(bytes(20_000))))
    assert talk.goaway == wire.CALM
    assert len(talk.log.outcomes) == talk.log.opened


async def test_unfinished_messages_are_bounded_for_all_calls_together() -> None:
    talk = Talk(ConnectionLimits(buffered_bytes=1 * MIB))
    for stream in range(1, 41, 2):
        talk.say(wire.request(stream), wire.data(stream, (900_000).to_bytes(5, "big") + bytes(100_000)))
    refused = [stream for stream in range(1, 41, 2) if talk.reader.ended(stream)]
    assert len(refused) == 10
    assert {talk.answer(stream).trailers["grpc-status"] for stream in refused} == {"8"}
    assert talk.calls.memory.buffered <= MIB
    assert talk.goaway is None


async def test_messages_that_wait_for_the_one_before_are_bounded_by_the_window() -> None:
    limits = ConnectionLimits(stream_window=200_000)
    talk = Talk(limits).say(wire.request(1), wire.data(1, wire.message(b"wait")))
    granted = talk.reader.granted(1)
    for _ in range(30):
        talk.say(wire.data(1, wire.message(bytes(5_000))))
    assert talk.reader.granted(1) == granted == 0


@pytest.mark.slow
async def test_thousands_of_messages_in_one_frame_take_many_turns() -> None:
    talk = Talk().say(wire.window_update(0, 2**30), wire.settings({4: 2**30}), wire.request(1))
    talk.connection.receive(wire.raw(0, 1, 1, wire.message() * 20_000), 0.0)
    assert len(talk.log.messages) <= 64
    await until(lambda: talk.log.outcomes)
    talk.read()
    assert len(talk.log.messages) == 20_000
    assert talk.answer().trailers == {"grpc-status": "0"}


@pytest.mark.parametrize(
    ("fields", "work"),
    [
        pytest.param(b"\x40\x01a\x01b" + b"\xbe" * 110, 118, id="fields of one byte"),
        pytest.param(b"\x10\x01a\x01b" * 100, 131, id="literals"),
        pytest.param(b"\x40\x01a\x01b" * 20, 26, id="literals that join the table"),
        pytest.param(b"\x10\x01a\xff\xfd\x74" + bytes(15_100), 945, id="Huffman code"),
    ],
)
async def test_turn_ends_by_the_work_that_header_blocks_take(fields: bytes, work: int) -> None:
    """HeaderBlocks are small and their fields are many: a turn of 256 such frames would take 100 ms and more."""
    talk, opened = Talk(), [0]
    talk.connection.receive(b"".join(wire.headers(stream, wire.block() + fields) for stream in range(1, 400, 2)), 0.0)
    while talk.connection.has_unread and len(opened) < 300:
        opened.append(talk.log.opened)
        talk.connection.receive(b"", 0.0)
    assert (talk.connection.close_reason, talk.log.opened) == (None, 200)
    assert (
        max(after - before for before, after in itertools.pairwise(opened))
        <= ConnectionLimits().header_work_per_turn // work + 1
    )


async def test_chunk_of_thousands_of_small_frames_is_read_in_turns() -> None:
    talk = Talk().say(wire.request(1))
    talk.connection.receive(wire.data(1, HELLO) * 1000, 0.0)
    assert len(talk.log.messages) == ConnectionLimits().frames_per_turn
    assert talk.connection.has_unread
    talk.connection.receive(wire.data(1, HELLO) * 10, 0.0)
    turns = 1
    while talk.connection.has_unread:
        talk.connection.receive(b"", 0.0)
        turns += 1
    assert len(talk.log.messages) == 1010
    assert turns == 3


async def test_calls_with_thousands_of_tiny_messages_each_share_the_turns_of_their_connection() -> None:
    talk, most, before = Talk(), 0, 0
    streams = range(1, 201, 2)
    for stream in streams:
        talk.say(wire.request(stream), wire.data(stream, wire.message(b"silence") * 100 + wire.message(b"hello")))
    while len(talk.log.messages) < 101 * len(streams):
        before = len(talk.log.messages)
        await asyncio.sleep(0)
        most = max(most, len(talk.log.messages) - before)
    talk.read()
    assert 0 < most <= MESSAGES_PER_TURN
    assert {talk.answer(stream).messages for stream in streams} == {(b"hello",)}
    assert talk.calls.memory.buffered == 0


async def test_frames_of_several_messages_end_the_turn_sooner() -> None:
    talk, streams = Talk(), range(1, 201, 2)
    talk.say(*map(wire.request, streams))
    talk.connection.receive(b"".join(wire.data(one, wire.message(b"silence") * 50) for one in streams), 0.0)
    assert len(talk.log.messages) <= 2 * MESSAGES_PER_TURN
    talk.say()
    assert len(talk.log.messages) == 50 * len(streams)


async def test_frames_that_take_long_end_the_turn() -> None:
    encoded = wire.block((*wire.REQUEST, *((f"x-{number}", "") for number in range(60))))
    talk = Talk(ConnectionLimits(header_work_per_turn=60))
    talk.connection.receive(b"".join(wire.headers(stream, encoded) for stream in range(1, 21, 2)), 0.0)
    assert (talk.log.opened, talk.connection.has_unread) == (1, True)
    assert talk.say().log.opened == 10
    talk.connection.receive(wire.settings({4: 1}) + wire.settings({4: 2}) + wire.request(21), 0.0)
    assert (talk.log.opened, talk.connection.has_unread) == (10, True)
    assert talk.say().log.opened == 11


async def test_call_that_is_over_is_no_turn_and_keeps_nothing() -> None:
    talk = Talk()
    for stream in (1, 3, 5):
        talk.say(wire.request(stream), wire.data(stream, wire.message(b"silence") * 100))
    talk.say(wire.reset(1), wire.reset(3))
    before = len(talk.log.messages)
    await asyncio.sleep(0)
    assert len(talk.log.messages) == before + 36  # of the one that is left
    talk.connection.lost()
    assert talk.calls.memory.buffered == 0
