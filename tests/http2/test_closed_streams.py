"""Streams that are over: what still comes for them, and how many there may be beside them."""

import pytest

from aibrix_extproc.http2.handler import CallOutcome
from aibrix_extproc.http2.limits import ConnectionLimits
from tests.http2 import wire
from tests.http2.rig import Talk

HELLO = wire.message(b"hello")


async def test_what_was_on_its_way_when_we_ended_a_stream_is_ignored() -> None:
    talk = Talk().say(wire.request(1, path="/unknown"))
    assert talk.answer().headers["grpc-status"] == "12"
    assert talk.answer().reset == wire.NO_ERROR
    before = len(talk.reader.frames)
    talk.say(wire.data(1, HELLO), wire.data(1, HELLO), wire.window_update(1, 10), wire.reset(1))
    assert talk.goaway is None
    assert len(talk.reader.frames) == before


async def test_stream_that_goes_on_for_ever_after_its_end_ends_the_connection() -> None:
    talk = Talk().say(wire.request(1, path="/unknown"))
    for _ in range(10_000):
        talk.say(wire.data(1, b"x"))
        if talk.goaway is not None:
            break
    assert talk.goaway == wire.CALM


async def test_data_on_a_stream_that_the_peer_reset_is_answered_with_a_reset() -> None:
    talk = Talk().say(wire.request(1), wire.reset(1), wire.data(1, HELLO))
    assert talk.answer().reset == wire.STREAM_CLOSED
    assert talk.log.outcomes == [CallOutcome.CANCELLED]


async def test_reset_after_the_end_of_a_finished_stream_is_nothing() -> None:
    talk = Talk().say(wire.request(1), wire.data(1, HELLO, end=True), wire.reset(1))
    assert talk.goaway is None
    assert talk.log.outcomes == [CallOutcome.COMPLETED]


async def test_reset_after_our_answer_and_the_end_of_the_request_cancels_a_call_that_waits() -> None:
    talk = Talk().say(wire.request(1), wire.data(1, wire.message(b"wait"), end=True), wire.reset(1))
    assert talk.log.outcomes == [CallOutcome.CANCELLED]
    assert talk.answer().reset is None


@pytest.mark.parametrize(
    ("code", "outcome"),
    [(0, CallOutcome.CANCELLED), (8, CallOutcome.CANCELLED), (2, CallOutcome.CANCELLED), (1, CallOutcome.FAILED)],
)
async def test_code_of_a_reset_tells_why_a_call_ended(code: int, outcome: CallOutcome) -> None:
    talk = Talk().say(wire.request(1), wire.data(1, HELLO), wire.reset(1, code))
    assert talk.log.outcomes == [outcome]


async def test_more_streams_than_announced_are_refused_and_room_comes_back() -> None:
    talk = Talk(ConnectionLimits(concurrent_streams=2)).say(
        wire.request(1), wire.request(3), wire.request(5), wire.data(5, HELLO)
    )
    assert talk.answer(5).reset == wire.REFUSED_STREAM
    talk.say(wire.reset(1), wire.request(7), wire.data(7, HELLO))
    assert talk.answer(7).messages == (b"hello",)
    assert talk.goaway is None
