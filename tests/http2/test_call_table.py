"""gRPC on one connection: methods, messages, statuses, deadlines, calls that wait, and bugs that end one call only."""

import asyncio
import logging
from collections.abc import Iterable

import pytest

from aibrix_extproc.http2.handler import CallOutcome, Responder
from aibrix_extproc.http2.status import Status
from tests.http2 import wire
from tests.http2.rig import MAX_MESSAGE_BYTES, HandlerBug, Log, Talk, on_both_loops
from tests.waiting import until

HELLO = wire.message(b"hello")
ORDERS = wire.message(b"one") + wire.message() + wire.message(b"three" * 50)
ANSWERS = (b"one", b"", b"three" * 50)


@pytest.mark.parametrize("border", range(1, len(ORDERS)))
async def test_messages_cut_at_any_byte_are_the_same(border: int) -> None:
    talk = Talk().say(wire.request(1), wire.data(1, ORDERS[:border]), wire.data(1, ORDERS[border:], end=True))
    assert talk.answer().messages == ANSWERS
    assert talk.answer().trailers == {"grpc-status": "0"}


@pytest.mark.parametrize("size", [1, 2, 4, 5, 6, 100])
async def test_messages_over_hundreds_of_frames_and_many_in_one_are_the_same(size: int) -> None:
    pieces = [wire.data(1, ORDERS[at : at + size]) for at in range(0, len(ORDERS), size)]
    talk = Talk().say(wire.request(1), *pieces, wire.data(1, end=True))
    assert talk.answer().messages == ANSWERS
    talk = Talk().say(wire.request(1), wire.data(1, ORDERS, end=True))
    assert talk.answer().messages == ANSWERS


async def test_large_message_over_200_frames_is_one_message() -> None:
    payload = bytes(range(256)) * 3900
    stream = wire.message(payload)
    pieces = [wire.data(1, stream[at : at + 4_000]) for at in range(0, len(stream), 4_000)]
    assert len(pieces) > 200
    talk = Talk().say(wire.window_update(0, 2**24), wire.settings({4: 2**24}), wire.request(1), *pieces)
    assert talk.answer().messages == (payload,)
    assert talk.calls.memory.buffered == 0


async def test_call_without_messages_is_answered_with_its_status() -> None:
    talk = Talk().say(wire.request(1, end=True))
    assert talk.answer().headers == {":status": "200", "content-type": "application/grpc"}
    assert talk.answer().trailers == {"grpc-status": "0"}
    assert talk.log.outcomes == [CallOutcome.COMPLETED]


async def test_trailers_of_the_client_are_the_end_of_its_request() -> None:
    talk = Talk().say(wire.request(1), wire.data(1, HELLO), wire.headers(1, wire.block((("x", "y"),)), end=True))
    assert talk.answer().messages == (b"hello",)
    assert talk.answer().trailers == {"grpc-status": "0"}


REFUSED: dict[str, tuple[bytes, str]] = {
    "unknown_method": (wire.request(1, path="/test/Nothing"), "12"),
    "compressed_message": (wire.request(1) + wire.data(1, wire.message(b"x", compressed=1)), "12"),
    "unknown_flag": (wire.request(1) + wire.data(1, wire.message(b"x", compressed=7)), "13"),
    "message_too_large": (wire.request(1) + wire.data(1, (MAX_MESSAGE_BYTES + 1).to_bytes(5, "big")), "8"),
    "message_cut_short": (wire.request(1) + wire.data(1, HELLO[:-1], end=True), "13"),
    "prefix_cut_short": (wire.request(1) + wire.data(1, HELLO[:3], end=True), "13"),
    "deadline_that_is_none": (wire.request(1, grpc_timeout="soon"), "13"),
    "deadline_too_long_a_number": (wire.request(1, grpc_timeout="123456789S"), "13"),
    "deadline_of_nothing": (wire.request(1, grpc_timeout=""), "13"),
    "deadline_without_a_unit": (wire.request(1, grpc_timeout="5"), "13"),
    "deadline_without_a_number": (wire.request(1, grpc_timeout="S"), "13"),
    "deadline_of_an_unknown_unit": (wire.request(1, grpc_timeout="5s"), "13"),
    "deadline_in_the_past": (wire.request(1, grpc_timeout="-5S"), "13"),
    "deadline_with_a_fraction": (wire.request(1, grpc_timeout="1.5S"), "13"),
    "method_with_a_query": (wire.request(1, path=f"{wire.ECHO}?a=b"), "12"),
    "method_in_other_letters": (wire.request(1, path=wire.ECHO.lower()), "12"),
    "method_with_a_slash_behind": (wire.request(1, path=f"{wire.ECHO}/"), "12"),
    "path_that_is_none": (wire.request(1, path="*"), "12"),
    "bug": (wire.request(1) + wire.data(1, wire.message(b"break")), "13"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_refused_call_gets_trailers_only_and_then_a_quiet_reset(name: str) -> None:
    said, status = REFUSED[name]
    talk = Talk().say(said, wire.request(3), wire.data(3, HELLO, end=True))
    answer = talk.answer(1)
    assert answer.trailers == answer.headers
    assert (answer.headers[":status"], answer.headers["content-type"]) == ("200", "application/grpc")
    assert answer.headers["grpc-status"] == status
    assert answer.headers["grpc-message"]
    assert answer.reset == (None if name.endswith("short") else wire.NO_ERROR)
    assert talk.answer(3).messages == (b"hello",)
    assert talk.calls.memory.buffered == 0
    assert len(talk.log.outcomes) == talk.log.opened


async def test_message_of_the_largest_size_is_taken() -> None:
    stream = wire.message(bytes(MAX_MESSAGE_BYTES))
    talk = Talk().say(wire.request(1), wire.data(1, stream[:900_000]), wire.data(1, stream[900_000:]))
    assert talk.log.messages == [bytes(MAX_MESSAGE_BYTES)]


async def test_refusal_after_an_answer_comes_as_trailers_with_an_encoded_message() -> None:
    talk = Talk().say(wire.request(1), wire.data(1, HELLO), wire.data(1, wire.message(b"refuse")))
    assert "grpc-status" not in talk.answer().headers
    assert talk.answer().trailers == {"grpc-status": "5", "grpc-message": "no such thing: 100 %25%0A%C3%A4"}
    assert talk.log.outcomes == [CallOutcome.FAILED]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (wire.request(1, method="GET"), "405"),
        (wire.request(1, content_type="application/json"), "415"),
        (wire.request(1, content_type="application/grpc-web"), "415"),
        (wire.request(1, content_type="application/grpc+json"), "415"),
        (wire.request(1, without=("content-type",)), "415"),
    ],
)
async def test_what_is_not_grpc_is_answered_in_plain_http(request_: bytes, status: str) -> None:
    talk = Talk().say(request_)
    assert talk.answer().headers[":status"] == status
    assert "grpc-status" not in talk.answer().trailers
    assert talk.log.opened == 0


@pytest.mark.parametrize("kind", ["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"])
async def test_content_types_of_grpc_are_taken(kind: str) -> None:
    talk = Talk().say(wire.request(1, content_type=kind), wire.data(1, HELLO))
    assert talk.answer().messages == (b"hello",)


@pytest.mark.parametrize(
    "request_",
    [
        wire.request(1, without=("te",)),
        wire.request(1, without=(":authority",)),
        wire.request(1, grpc_encoding="gzip"),
        wire.request(1, scheme="https"),
    ],
    ids=["no te", "no authority", "an encoding that no message has", "another scheme"],
)
async def test_call_that_lacks_what_we_do_not_need_is_served(request_: bytes) -> None:
    """What grpcio refuses of these, nothing here depends on."""
    talk = Talk().say(request_, wire.data(1, HELLO, end=True))
    assert talk.answer().messages == (b"hello",)


# ---- deadlines


@on_both_loops
@pytest.mark.parametrize("timeout", ["0n", "99999999n", "1m", "900u", "00000002m", "0S", "0M", "0H"])
async def test_deadline_of_the_client_ends_a_call_that_waits(timeout: str) -> None:
    talk = Talk().say(wire.request(1, grpc_timeout=timeout), wire.data(1, wire.message(b"wait")))
    await until(lambda: talk.log.outcomes)
    assert talk.answer().trailers["grpc-status"] == "4"
    assert talk.log.outcomes == [CallOutcome.FAILED]


@on_both_loops
@pytest.mark.parametrize("timeout", ["99999999H", "5M", "10S", "99999m", "99999999u"])
async def test_deadline_far_away_changes_nothing(timeout: str) -> None:
    talk = Talk().say(wire.request(1, grpc_timeout=timeout), wire.data(1, HELLO, end=True))
    assert talk.answer().trailers == {"grpc-status": "0"}


# ---- calls that wait


async def test_messages_behind_one_that_waits_are_answered_in_order() -> None:
    talk = Talk().say(wire.request(1), wire.data(1, HELLO), wire.data(1, wire.message(b"wait") + HELLO))
    talk.say(wire.data(1, ORDERS[:7]), wire.data(1, ORDERS[7:], end=True))
    assert talk.answer().messages == (b"hello",)
    talk.log.gate.set()
    await until(lambda: talk.log.outcomes)
    assert talk.answer().messages == (b"hello", b"waited", b"hello", *ANSWERS)
    assert talk.answer().trailers == {"grpc-status": "0"}
    assert talk.calls.memory.buffered == 0


async def test_two_messages_that_wait_do_so_one_after_the_other() -> None:
    talk = Talk().say(wire.request(1), wire.data(1, wire.message(b"wait") * 2, end=True))
    assert talk.log.messages == [b"wait"]
    talk.log.gate.set()
    await until(lambda: talk.log.outcomes)
    assert talk.answer().messages == (b"waited", b"waited")


async def test_cancelled_call_stops_what_waits_and_is_over_once() -> None:
    talk = Talk().say(wire.request(1), wire.data(1, wire.message(b"wait")), wire.reset(1))
    talk.log.gate.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert talk.log.outcomes == [CallOutcome.CANCELLED]
    assert talk.answer().messages == ()


async def test_cut_ends_calls_that_wait_as_unavailable() -> None:
    talk = Talk().say(wire.request(1), wire.data(1, wire.message(b"wait")))
    talk.calls.fail_calls(Status.UNAVAILABLE, "going away")
    talk.read()
    assert talk.answer().trailers["grpc-status"] == "14"
    assert talk.connection.streams == 0


async def test_handler_may_end_its_call_from_inside_a_message() -> None:
    talk = Talk().say(wire.request(1), wire.data(1, HELLO + wire.message(b"finish") + HELLO))
    assert talk.answer().messages == (b"hello",)
    assert talk.answer().trailers == {"grpc-status": "0"}
    assert talk.log.messages == [b"hello", b"finish"]


# ---- bugs


class BreaksEverywhere:
    def __init__(self, log: Log, where: str) -> None:
        self._log = log
        self._where = where
        log.opened += 1
        if where == "begin":
            raise HandlerBug

    def message(self, payload: bytes) -> Iterable[bytes]:
        if self._where == "iterate":
            return (self._broken() for _ in range(2))
        return (payload,)

    def _broken(self) -> bytes:
        raise HandlerBug

    def half_closed(self) -> Iterable[bytes]:
        if self._where == "half close":
            raise HandlerBug
        return ()

    def closed(self, outcome: CallOutcome) -> None:
        self._log.outcomes.append(outcome)
        if self._where == "close":
            raise HandlerBug


@pytest.mark.parametrize("where", ["begin", "iterate", "half close", "close"])
async def test_bug_of_a_handler_ends_its_call_and_is_logged(where: str, caplog: pytest.LogCaptureFixture) -> None:
    def methods(log: Log) -> dict[bytes, object]:
        def method(responder: Responder) -> object:
            return BreaksEverywhere(log, where if log.opened == 0 else "nowhere")

        return {wire.ECHO.encode(): method}

    talk = Talk(methods=methods)  # type: ignore[arg-type]
    with caplog.at_level(logging.ERROR):
        talk.say(wire.request(1), wire.data(1, HELLO, end=True))
    assert talk.answer().trailers["grpc-status"] == ("0" if where == "close" else "13")
    assert "internal error" in caplog.text
    assert "HandlerBug" in caplog.text
    talk.say(wire.request(3), wire.data(3, HELLO, end=True))
    assert talk.answer(3).trailers == {"grpc-status": "0"}


async def test_bug_while_waiting_ends_its_call_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    talk = Talk().say(wire.request(1), wire.data(1, wire.message(b"break later")))
    talk.log.gate.set()
    await until(lambda: talk.log.outcomes)
    assert talk.answer().trailers["grpc-status"] == "13"
    assert "HandlerBug" in caplog.text


async def test_bug_at_the_end_of_one_call_does_not_keep_others_from_their_end() -> None:
    def methods(log: Log) -> dict[bytes, object]:
        return {wire.ECHO.encode(): lambda _: BreaksEverywhere(log, "close")}

    talk = Talk(methods=methods)  # type: ignore[arg-type]
    for stream in (1, 3, 5):
        talk.say(wire.request(stream))
    talk.connection.lost()
    assert len(talk.log.outcomes) == 3
