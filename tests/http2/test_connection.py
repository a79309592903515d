"""HTTP/2 as RFC 9113 wants it of a server: each breach ends the connection or the stream with its own code."""

from collections.abc import Callable

import hpack
import pytest
from hyperframe.frame import GoAwayFrame, PingFrame, RstStreamFrame, SettingsFrame

from aibrix_extproc.http2.limits import MIB, ConnectionLimits
from tests.http2 import wire
from tests.http2.rig import Talk

HELLO = wire.message(b"hello")

BREACHES: dict[str, tuple[bytes, int]] = {
    "data_without_a_stream": (wire.raw(0, 0, 0, b"x"), wire.PROTOCOL_ERROR),
    "data_on_an_idle_stream": (wire.data(1, b"x"), wire.PROTOCOL_ERROR),
    "data_on_a_stream_of_ours": (wire.data(2, b"x"), wire.PROTOCOL_ERROR),
    "data_with_more_padding_than_frame": (wire.request(1) + wire.raw(0, 8, 1, b"\x05abcd"), wire.PROTOCOL_ERROR),
    "data_padded_without_a_length": (wire.request(1) + wire.raw(0, 8, 1), wire.PROTOCOL_ERROR),
    "headers_without_a_stream": (wire.raw(1, 4, 0, wire.block()), wire.PROTOCOL_ERROR),
    "headers_on_an_even_stream": (wire.raw(1, 4, 2, wire.block()), wire.PROTOCOL_ERROR),
    "headers_of_a_lower_stream": (wire.request(5) + wire.request(3), wire.STREAM_CLOSED),
    "headers_of_a_finished_stream": (wire.request(1, end=True) + wire.request(1), wire.STREAM_CLOSED),
    "headers_that_depend_on_themselves": (
        wire.raw(1, 0x24, 1, (1).to_bytes(4, "big") + b"\x10" + wire.block()),
        wire.PROTOCOL_ERROR,
    ),
    "headers_too_short_for_a_priority": (wire.raw(1, 0x24, 1, b"\x00\x00"), wire.FRAME_SIZE_ERROR),
    "headers_with_more_padding_than_frame": (wire.raw(1, 0x0C, 1, b"\xff" + wire.block()), wire.PROTOCOL_ERROR),
    "block_that_is_interrupted": (wire.begun(1, wire.block()) + wire.ping(), wire.PROTOCOL_ERROR),
    "block_interrupted_by_data": (wire.request(1) + wire.begun(3, b"") + wire.data(1, b"x"), wire.PROTOCOL_ERROR),
    "block_continued_on_another_stream": (
        wire.begun(1, wire.block()) + wire.continued(3, b"", last=True),
        wire.PROTOCOL_ERROR,
    ),
    "continuation_of_nothing": (wire.continued(1, b"", last=True), wire.PROTOCOL_ERROR),
    "continuation_on_stream_zero": (wire.raw(9, 4, 0), wire.PROTOCOL_ERROR),
    "block_with_an_unknown_index": (wire.headers(1, b"\xff\x80\x01"), wire.COMPRESSION_ERROR),
    "block_with_index_zero": (wire.headers(1, b"\x80"), wire.COMPRESSION_ERROR),
    "block_cut_short": (wire.headers(1, b"\x00\x05abc"), wire.COMPRESSION_ERROR),
    "block_that_grows_the_table": (wire.headers(1, b"\x3f\xff\xff\x03"), wire.COMPRESSION_ERROR),
    "block_with_an_endless_integer": (wire.headers(1, b"\xff" + b"\x80" * 1000), wire.COMPRESSION_ERROR),
    "reset_without_a_stream": (wire.raw(3, 0, 0, b"\0\0\0\x08"), wire.PROTOCOL_ERROR),
    "reset_of_an_idle_stream": (wire.reset(1), wire.PROTOCOL_ERROR),
    "reset_of_a_stream_of_ours": (wire.request(3) + wire.reset(2), wire.PROTOCOL_ERROR),
    "reset_of_another_size": (wire.request(1) + wire.raw(3, 0, 1, b"\0\0"), wire.FRAME_SIZE_ERROR),
    "settings_on_a_stream": (wire.raw(4, 0, 1), wire.PROTOCOL_ERROR),
    "settings_of_another_size": (wire.raw(4, 0, 0, b"12345"), wire.FRAME_SIZE_ERROR),
    "settings_ack_with_content": (wire.raw(4, 1, 0, b"123456"), wire.FRAME_SIZE_ERROR),
    "settings_window_too_large": (wire.settings({4: 2**31}), wire.FLOW_CONTROL_ERROR),
    "settings_frame_too_small": (wire.settings({5: 16383}), wire.PROTOCOL_ERROR),
    "settings_frame_too_large": (wire.settings({5: 2**24}), wire.PROTOCOL_ERROR),
    "settings_push_neither_yes_nor_no": (wire.settings({2: 2}), wire.PROTOCOL_ERROR),
    "settings_that_overflow_an_open_stream": (
        wire.request(1) + wire.window_update(1, 2**31 - 1 - 65535) + wire.settings({4: 65536}),
        wire.FLOW_CONTROL_ERROR,
    ),
    "push": (wire.raw(5, 4, 1, b"\0\0\0\x02"), wire.PROTOCOL_ERROR),
    "ping_on_a_stream": (wire.raw(6, 0, 1, b"12345678"), wire.PROTOCOL_ERROR),
    "ping_of_another_size": (wire.raw(6, 0, 0, b"1234567"), wire.FRAME_SIZE_ERROR),
    "goaway_on_a_stream": (wire.raw(7, 0, 1, bytes(8)), wire.PROTOCOL_ERROR),
    "goaway_too_short": (wire.raw(7, 0, 0, bytes(7)), wire.FRAME_SIZE_ERROR),
    "priority_without_a_stream": (wire.raw(2, 0, 0, bytes(5)), wire.PROTOCOL_ERROR),
    "priority_of_another_size_on_an_idle_stream": (wire.raw(2, 0, 1, bytes(4)), wire.FRAME_SIZE_ERROR),
    "window_of_another_size": (wire.raw(8, 0, 0, bytes(3)), wire.FRAME_SIZE_ERROR),
    "window_that_grows_by_nothing": (wire.window_update(0, 0), wire.PROTOCOL_ERROR),
    "window_that_overflows": (wire.window_update(0, 2**31 - 1), wire.FLOW_CONTROL_ERROR),
    "window_of_an_idle_stream": (wire.window_update(1, 1), wire.PROTOCOL_ERROR),
    "window_of_a_stream_of_ours": (wire.request(3) + wire.window_update(2, 1), wire.PROTOCOL_ERROR),
    "frame_larger_than_announced": (wire.raw(0, 0, 1, bytes(MIB + 1)), wire.FRAME_SIZE_ERROR),
    "unknown_frame_larger_than_announced": (wire.raw(99, 0, 0, bytes(MIB + 1)), wire.FRAME_SIZE_ERROR),
}


@pytest.mark.parametrize("name", BREACHES)
async def test_breach_of_the_connection_ends_it_with_its_code_and_every_call_once(name: str) -> None:
    said, code = BREACHES[name]
    talk = Talk().say(said)
    assert talk.goaway == code
    assert talk.connection.closing
    assert talk.connection.streams == 0
    assert len(talk.log.outcomes) == talk.log.opened
    talk.say(wire.request(9), wire.ping())  # nothing is read after the last word
    assert isinstance(talk.reader.frames[-1], GoAwayFrame)


STREAM_BREACHES: dict[str, tuple[bytes, int]] = {
    "data_after_the_end": (wire.request(1) + wire.data(1, wire.message(b"wait"), end=True) + wire.data(1, b"x"), 5),
    "trailers_that_do_not_end": (wire.request(1) + wire.headers(1, wire.block((("a", "b"),))), 1),
    "trailers_with_a_pseudo_header": (wire.request(1) + wire.headers(1, wire.block(((":path", "/"),)), end=True), 1),
    "trailers_after_the_end": (
        wire.request(1) + wire.data(1, wire.message(b"wait"), end=True) + wire.headers(1, b"", end=True),
        wire.STREAM_CLOSED,
    ),
    "priority_of_another_size": (wire.request(1) + wire.raw(2, 0, 1, bytes(4)), wire.FRAME_SIZE_ERROR),
    "priority_on_itself": (wire.request(1) + wire.raw(2, 0, 1, b"\0\0\0\x01\0"), wire.PROTOCOL_ERROR),
    "window_that_grows_by_nothing": (wire.request(1) + wire.window_update(1, 0), wire.PROTOCOL_ERROR),
    "window_that_overflows": (wire.request(1) + wire.window_update(1, 2**31 - 1), wire.FLOW_CONTROL_ERROR),
    "content_longer_than_said": (wire.request(1, content_length="3") + wire.data(1, b"\0\0\0\0\0"), 1),
    "content_shorter_than_said": (wire.request(1, content_length="9") + wire.data(1, HELLO[:5], end=True), 1),
    "content_said_and_none": (wire.request(1, content_length="9", end=True), wire.PROTOCOL_ERROR),
    "content_length_no_number": (wire.request(1, content_length="+5"), wire.PROTOCOL_ERROR),
    "no_method": (wire.request(1, without=(":method",)), wire.PROTOCOL_ERROR),
    "no_scheme": (wire.request(1, without=(":scheme",)), wire.PROTOCOL_ERROR),
    "no_path": (wire.request(1, without=(":path",)), wire.PROTOCOL_ERROR),
    "empty_path": (wire.request(1, path=""), wire.PROTOCOL_ERROR),
    "unknown_pseudo_header": (wire.headers(1, wire.block(((":status", "200"), *wire.REQUEST))), 1),
    "pseudo_header_twice": (wire.headers(1, wire.block((wire.REQUEST[0], *wire.REQUEST))), wire.PROTOCOL_ERROR),
    "pseudo_header_after_others": (wire.headers(1, wire.block((("a", "b"), *wire.REQUEST))), wire.PROTOCOL_ERROR),
    "upper_case_name": (wire.headers(1, wire.block((*wire.REQUEST, ("Aa", "b")))), wire.PROTOCOL_ERROR),
    "name_with_a_space": (wire.headers(1, wire.block((*wire.REQUEST, ("a b", "b")))), wire.PROTOCOL_ERROR),
    "empty_name": (wire.headers(1, wire.block((*wire.REQUEST, ("", "b")))), wire.PROTOCOL_ERROR),
    "value_with_a_line_break": (wire.request(1, x_a="a\r\nb: c"), wire.PROTOCOL_ERROR),
    "value_with_nul": (wire.request(1, x_a="a\0b"), wire.PROTOCOL_ERROR),
    "value_that_begins_with_a_space": (wire.request(1, x_a=" a"), wire.PROTOCOL_ERROR),
    "connection_header": (wire.request(1, connection="close"), wire.PROTOCOL_ERROR),
    "transfer_encoding": (wire.request(1, transfer_encoding="chunked"), wire.PROTOCOL_ERROR),
    "te_with_another_value": (wire.request(1, te="gzip"), wire.PROTOCOL_ERROR),
}


@pytest.mark.parametrize("name", STREAM_BREACHES)
async def test_breach_of_a_stream_resets_it_and_leaves_the_others_alone(name: str) -> None:
    said, code = STREAM_BREACHES[name]
    talk = Talk().say(said)
    assert talk.goaway is None
    assert talk.answer(1).reset == code
    assert talk.connection.streams == 0
    assert len(talk.log.outcomes) == talk.log.opened
    talk.say(wire.request(7), wire.data(7, HELLO, end=True))
    assert talk.answer(7).messages == (b"hello",)
    assert talk.answer(7).trailers == {"grpc-status": "0"}


async def test_first_words_are_settings_that_say_what_is_taken_and_room() -> None:
    talk = Talk(handshake=False)
    talk.read()
    first, second = talk.reader.frames
    assert isinstance(first, SettingsFrame)
    assert first.settings[SettingsFrame.MAX_CONCURRENT_STREAMS] == ConnectionLimits().concurrent_streams
    assert first.settings[SettingsFrame.INITIAL_WINDOW_SIZE] == ConnectionLimits().stream_window
    assert second.stream_id == 0
    assert talk.reader.granted(0) == ConnectionLimits().connection_window - 65535


async def test_settings_and_pings_are_acknowledged_and_acknowledgements_are_not() -> None:
    talk = Talk().say(wire.ping(b"abcdefgh"), wire.ping(ack=True), wire.settings(ack=True))
    acks = [frame for frame in talk.reader.frames if "ACK" in frame.flags]
    assert [type(frame) for frame in acks] == [SettingsFrame, PingFrame]
    assert isinstance(acks[1], PingFrame)
    assert acks[1].opaque_data == b"abcdefgh"


@pytest.mark.parametrize("first", [wire.ping(), wire.request(1), wire.settings(ack=True) + wire.ping()])
async def test_anything_before_settings_ends_the_connection(first: bytes) -> None:
    talk = Talk(handshake=False).say(wire.PREFACE, first)
    assert talk.goaway == wire.PROTOCOL_ERROR


@pytest.mark.parametrize(
    "said", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00", b"\0" * 24, wire.PREFACE[:-1] + b"X"]
)
async def test_what_is_no_preface_ends_the_connection(said: bytes) -> None:
    talk = Talk(handshake=False).say(said)
    assert talk.goaway == wire.PROTOCOL_ERROR
    assert talk.connection.close_reason is not None
    assert ("HTTP/1" in talk.connection.close_reason) == said.startswith(b"GET")
    assert ("TLS" in talk.connection.close_reason) == said.startswith(b"\x16")


async def test_frames_of_unknown_kinds_flags_and_settings_are_ignored() -> None:
    talk = Talk().say(
        wire.raw(0xEE, 0xFF, 0, b"who knows"), wire.settings({0x77: 5}), wire.raw(6, 0x80, 0, b"12345678"),
        wire.request(1), wire.raw(0xEE, 0, 1, b"x"), wire.data(1, HELLO, end=True),
    )  # fmt: skip
    assert talk.answer().messages == (b"hello",)


async def test_reserved_bit_of_the_stream_id_is_ignored() -> None:
    said = bytearray(wire.request(1))
    said[5] |= 0x80
    talk = Talk().say(bytes(said), wire.data(1, HELLO, end=True))
    assert talk.answer().messages == (b"hello",)


@pytest.mark.parametrize("step", [1, 2, 3, 7, 9, 10, 64])
async def test_bytes_in_pieces_of_any_size_mean_the_same(step: int) -> None:
    said = (
        wire.CLIENT_PREFACE
        + wire.request(1)
        + wire.data(1, HELLO, padding=3)
        + wire.ping()
        + wire.data(1, b"", end=True)
    )
    talk = Talk(handshake=False)
    for start in range(0, len(said), step):
        talk.say(said[start : start + step])
    assert talk.answer().messages == (b"hello",)
    assert talk.answer().trailers == {"grpc-status": "0"}


async def test_block_over_continuations_is_one_block() -> None:
    encoded = wire.block()
    pieces = [wire.continued(1, encoded[i : i + 20], last=False) for i in range(20, len(encoded), 20)]
    talk = Talk().say(wire.begun(1, encoded[:20]), *pieces, wire.continued(1, b"", last=True), wire.data(1, HELLO))
    assert talk.answer().messages == (b"hello",)


async def test_headers_with_padding_and_priority_are_taken() -> None:
    payload = b"\x04" + (3).to_bytes(4, "big") + b"\x10" + wire.block() + bytes(4)
    talk = Talk().say(wire.raw(1, 0x2C, 1, payload), wire.data(1, HELLO))
    assert talk.answer().messages == (b"hello",)


async def test_block_of_a_stream_that_is_refused_still_changes_the_table() -> None:
    encoder = hpack.Encoder()
    first, second = encoder.encode(list(wire.REQUEST)), encoder.encode(list(wire.REQUEST))
    talk = Talk(ConnectionLimits(concurrent_streams=1)).say(wire.request(1), wire.headers(3, first))
    assert talk.answer(3).reset == wire.REFUSED_STREAM
    talk.say(wire.reset(1), wire.headers(5, second), wire.data(5, HELLO))
    assert talk.answer(5).messages == (b"hello",)


async def test_remembered_block_is_forgotten_when_the_table_moves() -> None:
    encoder, talk, stream = hpack.Encoder(), Talk(), 1
    for path in (wire.ECHO, wire.ECHO, wire.ECHO, "/other", "/other", wire.ECHO, "/third", "/other", wire.ECHO):
        sent = [(name, path if name == ":path" else value) for name, value in wire.REQUEST]
        talk.say(wire.headers(stream, encoder.encode(sent)), wire.data(stream, HELLO, end=True))
        status = talk.answer(stream).trailers["grpc-status"]
        assert status == ("0" if path == wire.ECHO else "12")
        stream += 2


async def test_table_of_the_peer_may_shrink_and_grow_below_our_size() -> None:
    encoder, talk, stream = hpack.Encoder(), Talk(), 1
    for size in (4096, 0, 0, 100, 4096, 64, 4096):
        encoder.header_table_size = size
        for _ in range(2):
            talk.say(wire.headers(stream, encoder.encode(list(wire.REQUEST))), wire.data(stream, HELLO, end=True))
            assert talk.answer(stream).messages == (b"hello",)
            stream += 2


@pytest.mark.parametrize("size", [0, 1, 4096, 2**32 - 1])
async def test_answers_need_no_table_of_the_peer_whatever_its_size(size: int) -> None:
    talk = Talk().say(wire.settings({1: size}))
    talk.reader.shrink_table(min(size, 1))
    for stream in (1, 3):
        talk.say(wire.request(stream), wire.data(stream, HELLO, end=True))
        assert talk.answer(stream).headers == {":status": "200", "content-type": "application/grpc"}
        assert talk.answer(stream).trailers == {"grpc-status": "0"}


# ---- the end of a connection


async def test_two_steps_of_going_away_take_what_was_on_its_way_and_refuse_the_rest() -> None:
    talk = Talk().say(wire.request(1))
    talk.connection.announce_end()
    talk.say(wire.request(3), wire.data(3, HELLO))
    talk.connection.refuse_new()
    talk.say(wire.request(5), wire.data(5, HELLO), wire.data(1, HELLO, end=True), wire.data(3, b"", end=True))
    aways = [frame for frame in talk.reader.frames if isinstance(frame, GoAwayFrame)]
    assert [(one.last_stream_id, one.error_code) for one in aways] == [(2**31 - 1, 0), (3, 0)]
    assert talk.answer(5).reset == wire.REFUSED_STREAM
    assert [talk.answer(one).trailers for one in (1, 3)] == [{"grpc-status": "0"}] * 2
    talk.say(wire.raw(0, 0, 0))
    assert [one.last_stream_id for one in talk.reader.frames if isinstance(one, GoAwayFrame)][-1] == 3


async def test_refused_streams_of_a_drain_cost_no_goodwill() -> None:
    talk = Talk(ConnectionLimits(idle_frames=20)).say(wire.request(1))
    talk.connection.refuse_new()
    for stream in range(3, 1003, 2):
        talk.say(wire.request(stream), wire.data(stream, HELLO), wire.data(stream, HELLO))
    assert talk.goaway == wire.NO_ERROR
    talk.say(wire.data(1, HELLO, end=True))
    assert talk.answer(1).messages == (b"hello",)


async def test_goodbye_of_the_peer_leaves_its_running_streams_alone() -> None:
    talk = Talk().say(wire.request(1), wire.go_away(), wire.data(1, HELLO, end=True))
    assert talk.answer().trailers == {"grpc-status": "0"}


async def test_nothing_is_read_behind_a_frame_that_ends_the_connection_even_if_it_came_in_pieces() -> None:
    talk = Talk(ConnectionLimits(unsent_bytes=1_000)).say(wire.settings({4: 0}), wire.request(1))
    said = wire.data(1, wire.message(bytes(2_000))) + wire.request(3) + wire.ping()
    talk.say(said[:20]).say(said[20:])
    assert talk.goaway == wire.CALM
    assert isinstance(talk.reader.frames[-1], GoAwayFrame)
    assert talk.log.opened == len(talk.log.outcomes) == 1
    assert talk.connection.streams == 0


@pytest.mark.parametrize("lose", [lambda talk: talk.connection.lost(), lambda talk: talk.say(wire.raw(0, 0, 0))])
async def test_end_of_the_connection_is_the_end_of_every_call(lose: Callable[[Talk], object]) -> None:
    talk = Talk()
    for stream in range(1, 21, 2):
        talk.say(wire.request(stream), wire.data(stream, wire.message(b"wait")))
    lose(talk)
    assert len(talk.log.outcomes) == 10
    assert talk.connection.streams == 0
    assert not [one for one in talk.reader.frames if isinstance(one, RstStreamFrame)]
