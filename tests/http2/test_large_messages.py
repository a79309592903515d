"""Large DATA frames that follow each other are handed over as one: nothing may get lost, mixed up or uncounted."""

import random

import pytest

from aibrix_extproc.http2.limits import ConnectionLimits
from tests.http2 import wire
from tests.http2.rig import Talk

SHORT = ConnectionLimits(stream_window=100_000, connection_window=200_000)
LARGE = random.Random(1).randbytes(220_000)


@pytest.mark.parametrize("size", [4095, 4096, 16_384, 60_000])
@pytest.mark.parametrize("read", [20_000, 131_072, 1_000_000], ids=["small reads", "two reads", "one read"])
async def test_large_message_is_whole_however_its_frames_are_read(size: int, read: int) -> None:
    message = wire.message(LARGE)
    pieces = [wire.data(1, message[at : at + size]) for at in range(0, len(message), size)]
    said = wire.request(1) + b"".join(pieces) + wire.data(1, b"", end=True)
    talk = Talk()
    for start in range(0, len(said), read):
        talk.say(said[start : start + read])
    assert talk.log.messages == [LARGE]


async def test_large_frames_of_streams_in_turns_do_not_mix() -> None:
    messages = {stream: wire.message(bytes((stream,)) * 50_000) for stream in (1, 3)}
    said = [wire.request(1), wire.request(3)]
    for at in range(0, 60_000, 5_000):
        said += [wire.data(stream, message[at : at + 5_000]) for stream, message in messages.items()]
        said += [wire.ping()]
    talk = Talk().say(b"".join(said))
    assert sorted(talk.log.messages) == [bytes((stream,)) * 50_000 for stream in messages]


async def test_peer_that_ignores_a_stream_window_in_one_read_loses_the_stream() -> None:
    frame = wire.data(1, bytes(16_000))
    talk = Talk(SHORT).say(wire.request(1), frame * (SHORT.stream_window // 16_000 + 1))
    assert talk.answer().reset == wire.FLOW_CONTROL_ERROR
    assert talk.goaway is None
