"""Slow peers: what is unfinished at two checks in a row ends its connection, or its call alone."""

import asyncio

import pytest

from aibrix_extproc.http2.limits import MIB, ConnectionLimits
from aibrix_extproc.http2.timeouts import Timeouts
from tests.http2 import wire
from tests.http2.rig import Talk, connected, on_both_loops, serving
from tests.waiting import until

HELLO = wire.message(b"hello")
FAST_CHECKS = Timeouts(handshake_seconds=30.0, linger_seconds=0.2, notice_seconds=0.02, progress_seconds=0.1)


def check_progress(talk: Talk) -> int | None:
    """Check a connection as the server does at intervals; the code of its GOAWAY, if it sent one."""
    talk.calls.check_progress()
    talk.read()
    return talk.goaway


@pytest.mark.parametrize(
    "frame", [wire.data(1, bytes(1000)), wire.ping(), wire.request(3)], ids=["data", "ping", "headers"]
)
async def test_frame_that_does_not_come_to_its_end_ends_the_connection_however_it_drips(frame: bytes) -> None:
    talk = Talk().say(wire.request(1), frame[:5])
    assert check_progress(talk) is None
    talk.say(frame[5:6])
    assert check_progress(talk) == wire.CALM
    assert len(talk.log.outcomes) == talk.log.opened == 1


async def test_frames_that_come_in_pieces_but_come_are_no_slow_peer() -> None:
    talk, said = Talk().say(wire.request(1)), wire.data(1, HELLO) * 30
    for at in range(0, len(said), 20):
        talk.say(said[at : at + 20])
        assert check_progress(talk) is None
    assert len(talk.log.messages) == 30


async def test_header_block_that_does_not_come_to_its_end_ends_the_connection() -> None:
    talk = Talk().say(wire.begun(1, wire.block()[:9]))
    assert check_progress(talk) is None
    talk.say(wire.continued(1, wire.block()[9:10], last=False))
    assert check_progress(talk) == wire.CALM


async def test_header_blocks_that_come_in_pieces_but_come_are_no_slow_peer() -> None:
    talk = Talk()
    for stream in range(1, 21, 2):
        talk.say(wire.begun(stream, wire.block()[:9]))
        assert check_progress(talk) is None
        talk.say(wire.continued(stream, wire.block()[9:], last=True))
    assert talk.log.opened == 10


async def test_message_that_does_not_come_to_its_end_ends_its_call_alone_however_it_drips() -> None:
    talk = Talk().say(wire.request(1), wire.request(3), wire.data(1, wire.message(bytes(100))[:50]))
    assert check_progress(talk) is None
    talk.say(wire.data(1, b"\0"), wire.data(3, HELLO))
    assert check_progress(talk) is None
    assert talk.answer(1).headers["grpc-status"] == "4"
    assert (talk.calls.memory.buffered, talk.connection.streams) == (0, 1)
    assert talk.say(wire.data(3, HELLO, end=True)).answer(3).messages == (b"hello", b"hello")


async def test_messages_that_come_in_pieces_but_come_are_no_slow_peer() -> None:
    talk, said = Talk().say(wire.request(1)), HELLO * 30
    for at in range(0, len(said), 11):
        talk.say(wire.data(1, said[at : at + 11]))
        assert check_progress(talk) is None
    assert talk.answer().messages == (b"hello",) * 30


async def test_message_behind_a_handler_of_ours_that_waits_may_wait_with_it() -> None:
    talk = Talk().say(wire.request(1), wire.data(1, wire.message(b"wait") + HELLO[:6]))
    for _ in range(4):
        assert check_progress(talk) is None
    talk.log.gate.set()
    await until(lambda: talk.say(wire.data(1, HELLO[6:], end=True)) if talk.answer().messages else None)
    await until(lambda: talk.answer().messages == (b"waited", b"hello"))


@pytest.mark.parametrize("taken", [0, 1, 900])
async def test_peer_that_takes_hardly_any_of_its_answers_is_cut_off(taken: int) -> None:
    talk = Talk().say(wire.settings({4: 0}), wire.request(1), wire.data(1, wire.message(bytes(5_000)), end=True))
    assert check_progress(talk) is None
    if taken:
        talk.say(wire.window_update(1, taken))
    assert check_progress(talk) == wire.CALM


async def test_peer_that_takes_its_answers_slowly_is_not_cut_off() -> None:
    talk = Talk().say(wire.settings({4: 0}), wire.request(1), wire.data(1, wire.message(bytes(5_000)), end=True))
    for _ in range(5):
        assert check_progress(talk) is None
        talk.say(wire.window_update(1, 1024))
    assert check_progress(talk) is None
    assert talk.answer().messages == (bytes(5_000),)


async def test_little_that_is_left_of_an_answer_is_waited_for_as_well() -> None:
    talk = Talk().say(wire.settings({4: 0}))
    for stream in (1, 3, 5):
        talk.say(wire.request(stream), wire.data(stream, HELLO))
        assert check_progress(talk) is None
        talk.say(wire.window_update(stream, 1024))
    assert check_progress(talk) is None


# ---- on real sockets


@on_both_loops
@pytest.mark.parametrize("said", [b"\0\0", wire.begun(1, b"\x82")], ids=["frame", "header block"])
async def test_peer_that_begins_and_does_not_end_is_told_goodbye_in_bounded_time(said: bytes) -> None:
    async with serving(timeouts=FAST_CHECKS) as served, connected(served.port) as peer:
        peer.say(said)
        await peer.hear_all()
        assert peer.heard.goaway() == wire.CALM
        await until(lambda: served.server.connections == 0)


@on_both_loops
async def test_peer_that_does_not_read_is_gone_in_bounded_time() -> None:
    limits = ConnectionLimits(connection_window=256 * MIB, stream_window=256 * MIB)
    async with serving(limits, timeouts=FAST_CHECKS) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1)
        writer.write(wire.CLIENT_PREFACE + wire.window_update(0, 2**31 - 1 - 65_535) + wire.settings({4: 2**31 - 1}))
        writer.write(wire.request(1) + wire.raw(0, 0, 1, wire.message(bytes(500_000))) * 60)
        await until(lambda: served.log.outcomes)
        await until(lambda: served.server.connections == 0)
        writer.transport.abort()
        del reader


@on_both_loops
async def test_connection_that_owes_nothing_may_be_silent_with_its_streams() -> None:
    async with serving(timeouts=FAST_CHECKS) as served, connected(served.port) as peer:
        peer.say(wire.request(1), wire.data(1, wire.message(b"wait")))
        await asyncio.sleep(5 * FAST_CHECKS.progress_seconds)
        served.log.gate.set()
        peer.say(wire.data(1, HELLO, end=True))
        await peer.hear(lambda: peer.heard.ended(1))
        assert peer.heard.answer(1).messages == (b"waited", b"hello")
