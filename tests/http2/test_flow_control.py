"""Windows of RFC 9113: room is given back, answers wait for theirs, and peers that ignore ours are cut off."""

from hyperframe.frame import DataFrame

from aibrix_extproc.http2.limits import MIB, ConnectionLimits
from tests.http2 import wire
from tests.http2.rig import Talk

SHORT = ConnectionLimits(stream_window=100_000, connection_window=200_000)


async def test_room_is_given_back_before_it_is_gone() -> None:
    talk = Talk(SHORT).say(wire.request(1))
    for _ in range(40):
        talk.say(wire.data(1, wire.message(b"silence") + wire.message(bytes(9_000))))
    used = 40 * (5 + 7 + 5 + 9_000)
    assert talk.goaway is None
    assert talk.answer().reset is None
    assert talk.reader.granted(1) >= used - SHORT.stream_window
    assert talk.reader.granted(0) - (SHORT.connection_window - 65535) >= used - SHORT.connection_window


async def test_padding_counts_as_content_for_the_windows() -> None:
    talk = Talk(SHORT).say(wire.request(1))
    for _ in range(2000):
        talk.say(wire.data(1, b"\0", padding=255))
        if talk.goaway is not None or talk.answer().reset is not None:
            break
    assert talk.reader.granted(1) > SHORT.stream_window


async def test_peer_that_ignores_a_stream_window_loses_the_stream() -> None:
    talk = Talk(SHORT).say(wire.request(1), wire.data(1, wire.message(b"wait")))
    sent = 0
    while talk.answer().reset is None and sent < 500_000:
        talk.say(wire.data(1, bytes(16_000)))
        sent += 16_000
    assert talk.answer().reset == wire.FLOW_CONTROL_ERROR
    assert sent <= 2 * SHORT.stream_window
    assert talk.goaway is None


async def test_peer_that_ignores_the_connection_window_loses_the_connection() -> None:
    limits = ConnectionLimits(connection_window=65_535, stream_window=10 * MIB)
    talk = Talk(limits).say(wire.request(1), wire.raw(0, 0, 1, bytes(65_536)))
    assert talk.goaway == wire.FLOW_CONTROL_ERROR


async def test_answer_waits_for_the_stream_window_and_goes_on_where_it_stopped() -> None:
    body = bytes(range(256)) * 40
    talk = Talk().say(wire.settings({4: 100}), wire.request(1), wire.data(1, wire.message(body), end=True))
    assert len(talk.reader.body(1)) == 100
    assert not talk.reader.ended(1)
    talk.say(wire.window_update(1, 5_000))
    assert len(talk.reader.body(1)) == 5_100
    talk.say(wire.window_update(1, 100_000))
    assert talk.answer().messages == (body,)
    assert talk.answer().trailers == {"grpc-status": "0"}
    assert talk.connection.streams == 0


async def test_window_below_zero_after_a_change_of_settings_is_waited_for() -> None:
    talk = Talk().say(wire.settings({4: 1_000}), wire.request(1), wire.data(1, wire.message(bytes(3_000))))
    assert len(talk.reader.body(1)) == 1_000
    talk.say(wire.settings({4: 0}))  # the window is -1000 now
    talk.say(wire.window_update(1, 1_000))
    assert len(talk.reader.body(1)) == 1_000
    talk.say(wire.window_update(1, 7))
    assert len(talk.reader.body(1)) == 1_007
    talk.say(wire.settings({4: 10_000}))
    assert talk.answer().messages == (bytes(3_000),)


async def test_answers_wait_for_the_connection_window_and_streams_get_their_turn() -> None:
    talk = Talk().say(wire.settings({4: MIB}))
    for stream in (1, 3, 5):
        talk.say(wire.request(stream), wire.data(stream, wire.message(bytes(50_000)), end=True))
    assert sum(len(talk.reader.body(stream)) for stream in (1, 3, 5)) == 65_535
    talk.say(wire.window_update(0, MIB))
    assert [talk.answer(stream).messages for stream in (1, 3, 5)] == [(bytes(50_000),)] * 3


async def test_frames_of_an_answer_are_no_larger_than_the_peer_takes() -> None:
    talk = Talk().say(wire.settings({4: MIB}), wire.window_update(0, MIB), wire.request(1))
    talk.say(wire.data(1, wire.message(bytes(100_000))))
    sizes = [len(frame.data) for frame in talk.reader.frames if isinstance(frame, DataFrame)]
    assert max(sizes) == 16_384
    talk.say(wire.settings({5: 60_000}), wire.data(1, wire.message(bytes(100_000))))
    sizes = [len(frame.data) for frame in talk.reader.frames if isinstance(frame, DataFrame)]
    assert max(sizes) == 60_000


async def test_stream_reset_while_its_answer_waits_gives_the_room_to_others() -> None:
    talk = Talk(ConnectionLimits(unsent_bytes=200_000)).say(wire.settings({4: 0}))
    for stream in range(1, 41, 2):
        talk.say(wire.request(stream), wire.data(stream, wire.message(bytes(50_000))), wire.reset(stream))
    assert talk.goaway is None
