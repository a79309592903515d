"""Conversations from the placement on: answers that pass, errors that are told in OpenAI's words."""

import json
from typing import Any

import pytest

from aibrix_extproc.core.exchange.asks import Admitted
from aibrix_extproc.core.exchange.events import Cause, Event, ResponseTrailers
from aibrix_extproc.core.exchange.machine import Exchange
from aibrix_extproc.core.exchange.outputs import Continue, Finished, Immediate, Moved, Outcome, Output, Phase
from aibrix_extproc.core.exchange.response_side import MAX_ERROR_BODY_BYTES
from aibrix_extproc.core.exchange.states import Mode, ProtocolViolation
from aibrix_extproc.core.openai.contract.headers import NOT_RETURNED
from tests.build import (
    CALLER,
    ENDED_AT,
    HEAD_AT,
    PLACED_AT,
    REQUEST_ID,
    RESPONSE_AT,
    a_closing,
    a_placed,
    a_placement,
    a_request_body,
    a_request_head,
    a_response_body,
    a_response_head,
    an_exchange,
)

OWN_HEADERS = (("x-request-id", REQUEST_ID), ("openai-version", "2020-10-01"))
FLAG_NO_HEALTHY_UPSTREAM = 0x2


def placed(**head: Any) -> Exchange:
    """An exchange whose request is with engine-1."""
    exchange = an_exchange()
    for event in (a_request_head(**head), Admitted(CALLER), a_request_body(stream=True), a_placed()):
        exchange.receive(event)
    return exchange


def after(exchange: Exchange, *events: Event) -> tuple[Output, ...]:
    """What the last of some events brings."""
    outputs: tuple[Output, ...] = ()
    for event in events:
        outputs = exchange.receive(event)
    return outputs


def finished(exchange: Exchange, cause: Cause = Cause.HALF_CLOSED) -> Finished:
    """The closing fact."""
    (fact,) = exchange.receive(a_closing(cause))
    assert isinstance(fact, Finished)
    return fact


def test_answer_passes_with_our_headers_and_everything_is_told_at_the_end() -> None:
    exchange = placed()
    assert exchange.receive(a_response_head(server="uvicorn")) == (
        Continue(
            Phase.RESPONSE_HEAD,
            set_headers=(*OWN_HEADERS, ("openai-processing-ms", "1500")),
            remove_headers=("server",),
        ),
    )
    assert finished(exchange, Cause.CANCELLED) == Finished(
        request_id=REQUEST_ID,
        operation="chat_completion",
        model="chat-m",
        caller="key-1",
        stream=True,
        status=200,
        outcome=Outcome.SERVED,
        cause=Cause.CANCELLED,
        problem=None,
        assigned_to="engine-1",
        placement=a_placement(),
        upstream_address="10.0.0.1:8000",
        body_bytes=len(a_request_body(stream=True).data),
        started_at=HEAD_AT,
        placed_at=PLACED_AT,
        response_at=RESPONSE_AT,
        ended_at=ENDED_AT,
    )
    assert exchange.mode is Mode.CLOSED


@pytest.mark.parametrize("content_type", ["text/event-stream", "text/event-stream; charset=utf-8"])
def test_stream_passes_with_headers_that_keep_proxies_from_buffering(content_type: str) -> None:
    (answer,) = placed().receive(a_response_head(content_type=content_type))
    assert isinstance(answer, Continue)
    assert not answer.buffer_response
    assert ("cache-control", "no-cache") in answer.set_headers
    assert ("x-accel-buffering", "no") in answer.set_headers


@pytest.mark.parametrize("name", NOT_RETURNED)
def test_header_that_clients_must_not_see_is_removed(name: str) -> None:
    (answer,) = placed().receive(a_response_head(headers={name: "x"}))
    assert isinstance(answer, Continue)
    assert answer.remove_headers == (name,)


def test_page_of_another_origin_may_read_an_answer() -> None:
    (answer,) = placed(origin="https://app.example").receive(a_response_head())
    assert isinstance(answer, Continue)
    assert ("access-control-allow-origin", "https://app.example") in answer.set_headers


def test_body_and_trailers_of_an_answer_pass_untouched() -> None:
    exchange = placed()
    exchange.receive(a_response_head())
    assert exchange.receive(a_response_body()) == (Continue(Phase.RESPONSE_BODY),)
    assert exchange.receive(ResponseTrailers(RESPONSE_AT)) == (Continue(Phase.RESPONSE_TRAILERS),)


def test_engine_error_is_buffered_and_rewritten_with_its_status_and_exact_length() -> None:
    exchange = placed()
    head = a_response_head(
        422, server="uvicorn", content_encoding="identity", location="http://10.0.0.1", content_length="99", allow="GET"
    )
    assert exchange.receive(head) == (Continue(Phase.RESPONSE_HEAD, buffer_response=True),)
    (answer,) = exchange.receive(
        a_response_body(json.dumps({"object": "error", "message": "no", "code": 422}).encode())
    )
    assert isinstance(answer, Continue)
    assert answer.phase is Phase.RESPONSE_BODY
    assert answer.body is not None
    headers = dict(answer.set_headers)
    assert len(headers) == len(answer.set_headers)
    assert headers == {
        ":status": "400",
        "content-length": str(len(answer.body)),
        "content-type": "application/json",
        **dict(OWN_HEADERS),
    }
    assert set(answer.remove_headers) == {"server", "content-encoding", "location", "allow"}
    error = json.loads(answer.body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    fact = finished(exchange)
    assert (fact.status, fact.outcome, fact.problem) == (400, Outcome.ENGINE_ERROR, "bad_request")
    assert fact.assigned_to == "engine-1"


@pytest.mark.parametrize(
    "head",
    [
        a_response_head(500, end_of_stream=True),
        a_response_head(500, content_length=str(MAX_ERROR_BODY_BYTES + 1)),
        a_response_head(500, content_length="9" * 18),
    ],
    ids=["no body", "large body", "huge body"],
)
def test_engine_error_without_a_body_worth_reading_is_answered_at_once(head: Event) -> None:
    exchange = placed()
    (answer,) = exchange.receive(head)
    assert isinstance(answer, Immediate)
    assert answer.status == 500
    assert dict(answer.headers)["x-request-id"] == REQUEST_ID
    assert json.loads(answer.body)["error"]["type"] == "server_error"
    fact = finished(exchange)
    assert (fact.status, fact.outcome, fact.problem) == (500, Outcome.ENGINE_ERROR, "upstream_error")


@pytest.mark.parametrize("length", ["\u00b2", "9" * 5000, "-1", ""])
def test_unreadable_content_length_of_an_engine_error_lets_the_body_come(length: str) -> None:
    assert placed().receive(a_response_head(500, content_length=length)) == (
        Continue(Phase.RESPONSE_HEAD, buffer_response=True),
    )


@pytest.mark.parametrize("status", [301, 307, 304])
def test_redirect_of_an_engine_never_reaches_the_client(status: int) -> None:
    exchange = placed()
    (answer,) = exchange.receive(a_response_head(status, location="http://10.0.0.1/", end_of_stream=True))
    assert isinstance(answer, Immediate)
    assert answer.status == 500
    assert b"10.0.0.1" not in answer.body
    assert finished(exchange).status == 500


def test_error_whose_trailers_come_instead_of_a_body_passes_on() -> None:
    exchange = placed()
    exchange.receive(a_response_head(500))
    assert exchange.receive(ResponseTrailers(RESPONSE_AT)) == (Continue(Phase.RESPONSE_TRAILERS),)
    assert finished(exchange).status == 500


@pytest.mark.parametrize(
    ("status", "details", "flags", "key"),
    [
        (503, "no_healthy_upstream", FLAG_NO_HEALTHY_UPSTREAM, "no_healthy_upstream"),
        (503, "upstream_reset_before_response_started{connection_termination}", 0, "upstream_reset"),
        (503, "upstream_reset_before_response_started{connection_failure}", 0, "no_healthy_upstream"),
        (504, "response_timeout", 0x4, "timeout"),
        (413, "request_payload_too_large", 0, "request_too_large"),
        (503, "direct_response", 0, "gateway_unavailable"),
        (503, "something_new", FLAG_NO_HEALTHY_UPSTREAM, "no_healthy_upstream"),
    ],
)
def test_reply_of_envoy_itself_is_replaced(status: int, details: str, flags: int, key: str) -> None:
    exchange = placed()
    (answer,) = exchange.receive(a_response_head(status, code_details=details, flags=flags, upstream_address=""))
    assert isinstance(answer, Immediate)
    assert (answer.status, answer.details) == (status, f"ext_proc_{key}")
    assert dict(answer.headers)["x-request-id"] == REQUEST_ID
    fact = finished(exchange)
    assert (fact.status, fact.outcome, fact.problem) == (status, Outcome.ENVOY_ERROR, key)
    assert fact.assigned_to == "engine-1"


def test_stream_that_begins_with_a_response_is_shaped_too() -> None:
    exchange = an_exchange()
    head = a_response_head(413, code_details="request_payload_too_large", upstream_address="")
    (answer,) = exchange.receive(head)
    assert isinstance(answer, Immediate)
    assert answer.status == 413
    assert ("x-request-id", "req_of_the_response") in answer.headers
    fact = finished(exchange)
    assert (fact.operation, fact.status, fact.started_at, fact.assigned_to) == ("unknown", 413, None, None)


def test_local_reply_while_the_body_is_awaited_ends_the_exchange() -> None:
    exchange = an_exchange()
    outputs = after(
        exchange,
        a_request_head(),
        Admitted(CALLER),
        a_response_head(413, code_details="request_payload_too_large", upstream_address=""),
    )
    assert isinstance(outputs[0], Immediate)
    assert finished(exchange).assigned_to is None


def test_retry_that_reached_another_engine_moves_the_load() -> None:
    exchange = placed()
    moved, answer = exchange.receive(a_response_head(upstream_address="10.0.0.2:8000"))
    assert moved == Moved("engine-1", "engine-2", request_id=REQUEST_ID)
    assert isinstance(answer, Continue)
    fact = finished(exchange)
    assert (fact.assigned_to, fact.outcome, fact.upstream_address) == ("engine-2", Outcome.SERVED, "10.0.0.2:8000")


def test_retry_that_ended_in_an_error_moves_the_load_as_well() -> None:
    exchange = placed()
    moved, answer = exchange.receive(a_response_head(500, upstream_address="10.0.0.2:8000", end_of_stream=True))
    assert moved == Moved("engine-1", "engine-2", request_id=REQUEST_ID)
    assert isinstance(answer, Immediate)
    assert finished(exchange).assigned_to == "engine-2"


@pytest.mark.parametrize("address", ["", "10.9.9.9:1"])
def test_answer_from_an_address_that_was_not_placed_moves_nothing(address: str) -> None:
    exchange = placed()
    (answer,) = exchange.receive(a_response_head(upstream_address=address))
    assert isinstance(answer, Continue)
    assert finished(exchange).assigned_to == "engine-1"


def test_client_gone_before_the_answer_releases_what_was_taken() -> None:
    fact = finished(placed(), Cause.CANCELLED)
    assert (fact.status, fact.outcome, fact.assigned_to) == (0, Outcome.CANCELLED, "engine-1")
    assert fact.response_at is None


def test_client_gone_while_placing_drops_the_late_placement() -> None:
    exchange = an_exchange()
    after(exchange, a_request_head(), Admitted(CALLER), a_request_body())
    fact = finished(exchange, Cause.CANCELLED)
    assert (fact.outcome, fact.assigned_to, fact.model) == (Outcome.CANCELLED, None, "chat-m")
    assert exchange.receive(a_placed()) == ()


def test_nothing_but_late_answers_may_follow_the_end() -> None:
    exchange = placed()
    finished(exchange)
    for event in (a_response_head(), a_request_body(), a_closing()):
        with pytest.raises(ProtocolViolation):
            exchange.receive(event)


def test_whatever_was_on_its_way_after_a_final_answer_is_swallowed() -> None:
    exchange = an_exchange()
    after(exchange, a_request_head(path="/v1/nothing"), Admitted(CALLER))
    for event in (a_request_body(), a_response_head(), a_response_body(), ResponseTrailers(RESPONSE_AT), a_placed()):
        assert exchange.receive(event) == ()
    fact = finished(exchange)
    assert (fact.status, fact.outcome, fact.problem) == (404, Outcome.REFUSED, "unknown_url")


def test_internal_error_before_the_response_is_the_final_answer() -> None:
    exchange = placed()
    assert exchange.answerable
    (answer,) = exchange.internal_error()
    assert isinstance(answer, Immediate)
    assert answer.status == 500
    assert REQUEST_ID in json.loads(answer.body)["error"]["message"]
    fact = finished(exchange)
    assert (fact.status, fact.outcome, fact.problem) == (500, Outcome.INTERNAL_ERROR, "internal_error")
    assert fact.assigned_to == "engine-1"


def test_internal_error_after_the_response_began_leaves_it_alone_but_is_told() -> None:
    exchange = placed()
    exchange.receive(a_response_head())
    assert not exchange.answerable
    assert exchange.internal_error() == ()
    assert finished(exchange).outcome is Outcome.INTERNAL_ERROR


def test_response_event_out_of_order_raises_and_changes_nothing() -> None:
    exchange = placed()
    with pytest.raises(ProtocolViolation):
        exchange.receive(a_response_body())
    exchange.receive(a_response_head(500))
    with pytest.raises(ProtocolViolation):
        exchange.receive(a_response_head())
    (answer,) = exchange.receive(a_response_body())
    assert isinstance(answer, Continue)
    assert answer.body is not None
