"""The pump: messages in, replies out, bugs turned into answers, one closing fact whatever happens."""

import asyncio
import gc
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from aibrix_extproc.adapters.extproc._generated.external_processor_pb2 import (
    HttpBody,
    HttpHeaders,
    HttpTrailers,
    ProcessingRequest,
    ProcessingResponse,
)
from aibrix_extproc.adapters.extproc.outgoing import Outgoing, whole_messages
from aibrix_extproc.adapters.extproc.session import Session
from aibrix_extproc.app.dispatch import pending
from aibrix_extproc.core.exchange import asks, events
from aibrix_extproc.core.exchange.asks import Ask, Authenticate, Place
from aibrix_extproc.core.exchange.machine import Exchange
from aibrix_extproc.core.exchange.outputs import Assigned, Fact, Finished, Outcome, Phase
from aibrix_extproc.core.exchange.policy import ExchangePolicy
from aibrix_extproc.core.openai.contract.errors import Problem
from tests.build import CALLER, a_placed, a_request_body, a_request_head, a_response_head, an_exchange

MADE_ID = "made-id"
ENVOY_ID = "01234567-89ab-cdef-0123-456789abcdef"


class DispatcherBug(Exception):
    """A mistake of ours."""


class FakeDispatcher:
    """Lets everyone in and places everything; one kind of ask or fact may be told to fail or to wait."""

    def __init__(self, *, breaks: type | None = None, waits: type | None = None) -> None:
        self._breaks = breaks
        self._waits = waits
        self.placement: asyncio.Future[asks.Answer] | None = None
        self.facts: list[Fact] = []
        self.bugs = 0
        self.phases: list[Phase] = []

    def answer(self, ask: Ask) -> asks.Answer | asks.Pending:
        if self._breaks is type(ask):
            raise DispatcherBug("this text must reach no client")
        if self._waits is type(ask):
            self.placement = asyncio.get_running_loop().create_future()
            return pending(self.placement, 4.0)
        match ask:
            case Authenticate():
                return asks.Admitted(CALLER)
            case Place():
                return a_placed()
            case _:
                return asks.Described(200, (), b"{}")

    def observe(self, fact: Fact) -> None:
        self.facts.append(fact)
        if self._breaks is type(fact):
            raise DispatcherBug("this text must reach no client")

    def timed(self, phase: Phase, seconds: float) -> None:
        assert seconds >= 0
        self.phases.append(phase)

    def bug(self) -> None:
        self.bugs += 1

    @property
    def finished(self) -> Finished:
        (fact,) = [fact for fact in self.facts if isinstance(fact, Finished)]
        return fact


def ticking() -> Callable[[], float]:
    """A clock that is a millisecond later each time."""
    ticks = iter(range(10_000))
    return lambda: next(ticks) / 1000


def a_session(dispatcher: FakeDispatcher) -> Session:
    return Session(dispatcher, an_exchange(), ticking(), lambda: MADE_ID)


def http_headers(headers: dict[str, str], *, end_of_stream: bool = False) -> HttpHeaders:
    message = HttpHeaders(end_of_stream=end_of_stream)
    for name, value in headers.items():
        message.headers.headers.add(key=name, raw_value=value.encode("latin-1"))
    return message


def request_head(**head: Any) -> ProcessingRequest:
    event = a_request_head(**{"x_request_id": ENVOY_ID, **head})
    return ProcessingRequest(request_headers=http_headers(dict(event.headers), end_of_stream=event.end_of_stream))


def request_body() -> ProcessingRequest:
    return ProcessingRequest(request_body=HttpBody(body=a_request_body().data, end_of_stream=True))


def response_head(status: int = 200) -> ProcessingRequest:
    return ProcessingRequest(response_headers=http_headers(dict(a_response_head(status).headers)))


def only(replies: list[Outgoing]) -> ProcessingResponse:
    (reply,) = whole_messages(replies)
    return ProcessingResponse.FromString(reply)


def kind(replies: list[Outgoing]) -> str | None:
    name: str | None = only(replies).WhichOneof("response")
    return name


def is_internal_error(replies: list[Outgoing]) -> bool:
    """Whether Envoy is told to send the JSON 500 that names the exchange."""
    immediate = only(replies).immediate_response
    error = json.loads(immediate.body)["error"]
    headers = {one.header.key: one.header.raw_value for one in immediate.headers.set_headers}
    assert set(error) == {"message", "type", "param", "code"}
    assert "must reach no client" not in str(immediate)
    assert headers["content-type"] == b"application/json"
    return (
        immediate.status.code == 500
        and error["code"] == "internal_error"
        and ENVOY_ID in error["message"]
        and headers["x-request-id"] == ENVOY_ID.encode()
    )


def test_chat_takes_three_messages_and_three_replies() -> None:
    dispatcher = FakeDispatcher()
    session = a_session(dispatcher)
    messages = (request_head(), request_body(), response_head())
    assert [kind(session.receive(message)) for message in messages] == [
        "request_headers",
        "request_body",
        "response_headers",
    ]
    session.close(events.Cause.HALF_CLOSED)
    assert dispatcher.phases == [Phase.REQUEST_HEAD, Phase.REQUEST_BODY, Phase.RESPONSE_HEAD]
    assigned, finished = dispatcher.facts
    assert isinstance(assigned, Assigned)
    assert (assigned.identity, assigned.request_id) == ("engine-1", ENVOY_ID)
    assert finished is dispatcher.finished
    assert (dispatcher.finished.outcome, dispatcher.finished.request_id) == (Outcome.SERVED, ENVOY_ID)


@pytest.mark.parametrize("given", ["", "mine", "x" * 36, ENVOY_ID.upper(), f" {ENVOY_ID}"])
def test_exchange_without_an_id_of_envoy_gets_one_of_ours(given: str) -> None:
    dispatcher = FakeDispatcher()
    session = a_session(dispatcher)
    session.receive(request_head(x_request_id=given))
    session.close(events.Cause.CANCELLED)
    assert dispatcher.finished.request_id == MADE_ID


@pytest.mark.parametrize(
    ("given", "kept"),
    [("gateway-7", True), (ENVOY_ID, True), (ENVOY_ID.upper(), True), ("a" * 128, True), ("", False),
     ("a" * 129, False), ("a b", False), ("-a", False), ("a\r\nb: c", False), ("\xe9", False)],
)  # fmt: skip
def test_picker_keeps_the_id_of_its_gateway(given: str, kept: bool) -> None:
    dispatcher = FakeDispatcher()
    session = Session(dispatcher, Exchange(ExchangePolicy(is_picker=True)), ticking(), lambda: MADE_ID)
    session.receive(request_head(x_request_id=given))
    reply = only(session.receive(request_body())).request_body.response
    changed = {one.header.key: one.header.raw_value for one in reply.header_mutation.set_headers}
    assert changed.get("x-request-id", given.encode("latin-1")) == (
        given.encode("latin-1") if kept else MADE_ID.encode()
    )
    session.close(events.Cause.CANCELLED)
    assert dispatcher.finished.request_id == (given if kept else MADE_ID)


@pytest.mark.parametrize(("given", "told"), [(ENVOY_ID, ENVOY_ID), (f"{ENVOY_ID}-2", ENVOY_ID), ("mine", MADE_ID)])
def test_answer_whose_request_we_never_saw_has_the_id_of_its_request_and_not_of_an_attempt(
    given: str, told: str
) -> None:
    head = response_head()
    head.attributes["envoy.filters.http.ext_proc"].fields["request.id"].string_value = given
    mutation = only(a_session(FakeDispatcher()).receive(head)).response_headers.response.header_mutation
    assert {one.header.key: one.header.raw_value for one in mutation.set_headers}["x-request-id"] == told.encode()


@pytest.mark.parametrize("broken", [Authenticate, Place, Assigned])
def test_bug_before_the_response_is_a_json_500_that_names_the_exchange(
    broken: type, caplog: pytest.LogCaptureFixture
) -> None:
    dispatcher = FakeDispatcher(breaks=broken)
    session = a_session(dispatcher)
    replies = session.receive(request_head())
    if broken is not Authenticate:
        replies = session.receive(request_body())
    assert is_internal_error(replies)
    assert dispatcher.bugs == 1
    assert "internal error" in caplog.text
    session.close(events.Cause.HALF_CLOSED)
    assert (dispatcher.finished.outcome, dispatcher.finished.status) == (Outcome.INTERNAL_ERROR, 500)


class ResponseBug(FakeDispatcher):
    """Breaks when the answer of a retried engine moves the load."""

    def observe(self, fact: Fact) -> None:
        self.facts.append(fact)
        if type(fact).__name__ == "Moved":
            raise DispatcherBug


def test_bug_after_the_response_began_lets_it_pass() -> None:
    dispatcher = ResponseBug()
    session = a_session(dispatcher)
    session.receive(request_head())
    session.receive(request_body())
    message = response_head()
    fields = message.attributes["envoy.filters.http.ext_proc"].fields
    fields["upstream.address"].string_value = "10.0.0.2:8000"
    replies = session.receive(message)
    assert only(replies) == ProcessingResponse(response_headers={})
    assert kind(replies) == "response_headers"
    session.close(events.Cause.HALF_CLOSED)
    assert dispatcher.bugs == 1
    assert (dispatcher.finished.outcome, dispatcher.finished.assigned_to) == (Outcome.INTERNAL_ERROR, "engine-2")


def test_message_out_of_order_is_answered_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    dispatcher = FakeDispatcher()
    session = a_session(dispatcher)
    assert only(session.receive(request_body())) == ProcessingResponse(request_body={})
    assert kind(session.receive(request_head())) == "request_headers"
    assert "protocol violation" in caplog.text
    assert dispatcher.bugs == 0


def test_trailers_are_answered() -> None:
    session = a_session(FakeDispatcher())
    session.receive(request_head())
    trailers = ProcessingRequest(request_trailers=HttpTrailers())
    assert kind(session.receive(trailers)) == "request_trailers"


def test_message_of_an_unknown_kind_is_ignored(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert a_session(FakeDispatcher()).receive(ProcessingRequest()) == []
    assert "unknown kind" in caplog.text


@pytest.mark.parametrize("message", [ProcessingRequest(), request_body()], ids=["unknown kind", "out of order"])
def test_messages_that_make_no_sense_fill_no_log(message: ProcessingRequest, caplog: pytest.LogCaptureFixture) -> None:
    session = a_session(FakeDispatcher())
    for _ in range(100):
        session.receive(message)
    assert len(caplog.records) == 1


def test_close_gives_one_closing_fact_however_often_it_is_called() -> None:
    dispatcher = FakeDispatcher()
    session = a_session(dispatcher)
    session.receive(request_head())
    session.receive(request_body())
    session.close(events.Cause.CANCELLED)
    session.close(events.Cause.HALF_CLOSED)
    assert (dispatcher.finished.cause, dispatcher.finished.assigned_to) == (events.Cause.CANCELLED, "engine-1")


async def test_answer_that_is_not_at_hand_is_awaited_and_resumes_the_exchange() -> None:
    dispatcher = FakeDispatcher(waits=Place)
    session = a_session(dispatcher)
    session.receive(request_head())
    assert session.receive(request_body()) == []
    assert session.pending is not None
    assert dispatcher.placement is not None
    dispatcher.placement.set_result(a_placed())
    replies = session.resume(await session.pending)
    assert kind(replies) == "request_body"
    assert session.pending is None
    session.close(events.Cause.HALF_CLOSED)
    assert dispatcher.finished.assigned_to == "engine-1"


async def test_refusal_that_was_waited_for_is_the_final_answer() -> None:
    dispatcher = FakeDispatcher(waits=Authenticate)
    session = a_session(dispatcher)
    assert session.receive(request_head()) == []
    assert dispatcher.placement is not None
    dispatcher.placement.set_result(asks.Refused(Problem("missing_api_key")))
    assert session.pending is not None
    assert only(session.resume(await session.pending)).immediate_response.status.code == 401


async def test_client_gone_while_an_answer_is_awaited_takes_nothing() -> None:
    dispatcher = FakeDispatcher(waits=Place)
    session = a_session(dispatcher)
    session.receive(request_head())
    session.receive(request_body())
    session.close(events.Cause.CANCELLED)
    assert session.resume(a_placed()) == []
    assert dispatcher.finished.assigned_to is None
    assert dispatcher.facts == [dispatcher.finished]


async def test_client_gone_before_anybody_waited_leaves_nothing_unawaited() -> None:
    session = a_session(FakeDispatcher(waits=Place))
    session.receive(request_head())
    session.receive(request_body())
    session.close(events.Cause.CANCELLED)
    del session
    gc.collect()  # a coroutine that was never awaited warns here


def placed_session(dispatcher: FakeDispatcher) -> Session:
    session = a_session(dispatcher)
    session.receive(request_head(x_stainless_read_timeout="5"))
    assert session.wait_seconds is None
    session.receive(request_body())
    return session


def test_deadline_before_the_response_is_the_final_answer() -> None:
    dispatcher = FakeDispatcher()
    session = placed_session(dispatcher)
    assert session.wait_seconds == 6.0  # a second longer than the client
    immediate = only(session.expire()).immediate_response
    assert immediate.status.code == 504
    assert json.loads(immediate.body)["error"]["code"] == "timeout"
    assert session.expire() == []
    session.close(events.Cause.HALF_CLOSED)
    assert (dispatcher.finished.status, dispatcher.finished.assigned_to) == (504, "engine-1")


def test_deadline_after_the_response_or_after_the_end_says_nothing() -> None:
    dispatcher = FakeDispatcher()
    session = placed_session(dispatcher)
    session.receive(response_head())
    assert session.expire() == []
    session.close(events.Cause.HALF_CLOSED)
    assert session.expire() == []
    assert (dispatcher.finished.status, dispatcher.finished.outcome) == (200, Outcome.SERVED)


class FakeTraffic:
    """Remembers who was placed and who answered."""

    def __init__(self) -> None:
        self.here: dict[str, Session] = {}
        self.answers: list[str] = []

    def placed(self, identity: str, exchange: Session, at: float) -> None:
        self.here[identity] = exchange

    def answered(self, address: str, at: float) -> None:
        self.answers.append(address)

    def ended(self, identity: str, exchange: Session) -> None:
        assert self.here.pop(identity) is exchange


def session_in_traffic(traffic: FakeTraffic) -> tuple[Session, list[Outgoing]]:
    """A placed session, and what its transport sends when it is told to."""
    session = Session(FakeDispatcher(), an_exchange(), ticking(), lambda: MADE_ID, traffic=traffic)
    session.receive(request_head())
    session.receive(request_body())
    sent: list[Outgoing] = []
    session.expire_now = lambda: sent.extend(session.expire())
    return session, sent


@pytest.mark.parametrize(("elsewhere", "after"), [(True, {"1"}), (False, {"5"})], ids=["elsewhere", "nowhere"])
def test_engine_that_falls_asleep_ends_the_wait_with_a_503(elsewhere: bool, after: set[str]) -> None:
    traffic = FakeTraffic()
    session, sent = session_in_traffic(traffic)
    (waiting,) = traffic.here.values()
    waiting.engine_asleep(elsewhere=elsewhere)
    immediate = only(sent).immediate_response
    assert immediate.status.code == 503
    assert json.loads(immediate.body)["error"]["code"] == "model_not_ready"
    told = {one.header.key: one.header.raw_value.decode() for one in immediate.headers.set_headers}
    assert {told["retry-after"]} == after
    assert ("retry-after-ms" in told) is elsewhere
    waiting.engine_asleep(elsewhere=elsewhere)
    session.close(events.Cause.HALF_CLOSED)
    assert len(sent) == 1
    assert not traffic.here


def test_engine_that_falls_asleep_leaves_an_answer_that_has_begun() -> None:
    traffic = FakeTraffic()
    session, sent = session_in_traffic(traffic)
    session.receive(response_head())
    session.engine_asleep(elsewhere=True)
    session.close(events.Cause.HALF_CLOSED)
    session.engine_asleep(elsewhere=True)
    assert sent == []
