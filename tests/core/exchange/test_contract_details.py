"""Conversations about the finer points of the contract: owned responses, deadlines, transcripts, other shapes."""

import json
from typing import Any, TypeVar

import pytest

from aibrix_extproc.core.exchange.asks import Admitted, Place, Refused
from aibrix_extproc.core.exchange.events import DeadlineReached
from aibrix_extproc.core.exchange.machine import Exchange
from aibrix_extproc.core.exchange.outputs import Continue, Immediate, Outcome, Output, OwnerChanged, Phase, WaitFor
from aibrix_extproc.core.exchange.policy import ExchangePolicy
from aibrix_extproc.core.exchange.response_side import MAX_SHORT_BYTES
from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.placing import Caller
from tests.build import (
    CALLER,
    RESPONSE_AT,
    a_closing,
    a_placed,
    a_placement,
    a_request_body,
    a_request_head,
    a_response_body,
    a_response_head,
    an_endpoint,
)

T = TypeVar("T")

FORM = (
    b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF\r\n'
    b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\nasr-m\r\n'
    b'--B\r\nContent-Disposition: form-data; name="response_format"\r\n\r\n%b\r\n--B--\r\n'
)


def placed(
    body: bytes,
    *,
    path: str,
    policy: ExchangePolicy | None = None,
    caller: Caller = CALLER,
    head: dict[str, str] | None = None,
) -> tuple[Exchange, Continue]:
    """An exchange that was just forwarded, and how."""
    exchange = Exchange(policy or ExchangePolicy())
    exchange.receive(a_request_head(path=path, headers={"content-length": str(len(body)), **(head or {})}))
    exchange.receive(Admitted(caller))
    (place,) = exchange.receive(a_request_body(body))
    assert isinstance(place, Place), place
    response_id = "resp_made" if path == "/v1/responses" else None
    return exchange, only(exchange.receive(a_placed(response_id=response_id)), Continue)


def only(outputs: tuple[Output, ...], kind: type[T]) -> T:
    """The one output of a kind."""
    (found,) = [one for one in outputs if isinstance(one, kind)]
    return found


def transcribing(response_format: bytes) -> tuple[Exchange, tuple[Output, ...]]:
    body = FORM.replace(b"%b", response_format)
    exchange = Exchange(ExchangePolicy())
    exchange.receive(a_request_head(path="/v1/audio/transcriptions", content_type="multipart/form-data; boundary=B"))
    exchange.receive(Admitted(CALLER))
    return exchange, exchange.receive(a_request_body(body))


def test_response_gets_an_id_of_ours_so_that_its_engine_is_found_later() -> None:
    body = b'{"model":"chat-m","input":"hi"}'
    exchange, forward = placed(body, path="/v1/responses")
    assert forward.body is not None
    sent = json.loads(forward.body)
    assert sent["request_id"] == "resp_made"
    assert {**sent, "request_id": None} == {"request_id": None, **json.loads(body)}
    assert ("content-length", str(len(forward.body))) in forward.set_headers
    # The id names the first candidate, so nothing has to be remembered.
    assert not [one for one in exchange.receive(a_response_head()) if isinstance(one, OwnerChanged)]


def test_response_that_a_retry_moved_is_held_by_the_engine_that_answered() -> None:
    exchange, _ = placed(b'{"model":"chat-m","input":"hi"}', path="/v1/responses")
    held = only(exchange.receive(a_response_head(upstream_address="10.0.0.2:8000")), OwnerChanged)
    assert held == OwnerChanged(RESPONSE_AT, "resp_made", "engine-2")


def test_response_that_failed_is_held_by_nobody() -> None:
    exchange, _ = placed(b'{"model":"chat-m","input":"hi"}', path="/v1/responses")
    assert not [
        one
        for one in exchange.receive(a_response_head(status=400, upstream_address="10.0.0.2:8000"))
        if isinstance(one, OwnerChanged)
    ]


def test_client_cannot_choose_the_id_of_a_response() -> None:
    _, forward = placed(b'{"request_id":"resp_mine","model":"chat-m","input":"hi"}', path="/v1/responses")
    assert b"resp_mine" not in (forward.body or b"")


def test_previous_response_goes_with_the_question() -> None:
    exchange = Exchange(ExchangePolicy())
    exchange.receive(a_request_head(path="/v1/responses"))
    exchange.receive(Admitted(CALLER))
    (place,) = exchange.receive(a_request_body(b'{"model":"chat-m","input":"x","previous_response_id":"resp_7"}'))
    assert isinstance(place, Place)
    assert place.stored_response == "resp_7"


def test_chat_body_is_not_sent_back() -> None:
    _, forward = placed(b'{"model":"chat-m","messages":[]}', path="/v1/chat/completions")
    assert forward.body is None


@pytest.mark.parametrize(
    ("asked", "waits"),
    [("5", 6.0), ("0.5", 1.5), ("29.5", 30.5), ("30", 31.0), ("30.1", 30.0), ("600", 30.0), ("nan", 30.0),
     ("inf", 30.0), ("-1", 30.0), ("0", 30.0), ("x", 30.0), ("", 30.0)],
)  # fmt: skip
def test_client_may_wait_less_than_the_gateway_and_gives_up_before_it(asked: str, waits: float) -> None:
    exchange = Exchange(ExchangePolicy(max_wait_seconds=30.0))
    exchange.receive(a_request_head(x_stainless_read_timeout=asked))
    exchange.receive(Admitted(CALLER))
    exchange.receive(a_request_body())
    assert only(exchange.receive(a_placed()), WaitFor) == WaitFor(waits)


@pytest.mark.parametrize(("other", "waits"), [("", 6.0), ("2", 3.0)], ids=["own", "both"])
def test_sdks_in_javascript_say_it_by_another_name(other: str, waits: float) -> None:
    exchange = Exchange(ExchangePolicy(max_wait_seconds=30.0))
    exchange.receive(a_request_head(x_stainless_timeout="5", x_stainless_read_timeout=other))
    exchange.receive(Admitted(CALLER))
    exchange.receive(a_request_body())
    assert only(exchange.receive(a_placed()), WaitFor) == WaitFor(waits)


def test_deadline_before_the_response_is_a_504_and_releases_the_engine() -> None:
    exchange, _ = placed(b'{"model":"chat-m"}', path="/v1/chat/completions")
    (answer,) = exchange.receive(DeadlineReached(RESPONSE_AT))
    assert isinstance(answer, Immediate)
    assert (answer.status, json.loads(answer.body)["error"]["code"]) == (504, "timeout")
    assert exchange.receive(a_response_head()) == ()
    (finished,) = exchange.receive(a_closing())
    assert getattr(finished, "status", None) == 504
    assert getattr(finished, "outcome", None) is Outcome.ENVOY_ERROR
    assert getattr(finished, "assigned_to", None) == "engine-1"


def test_deadline_after_the_response_has_begun_changes_nothing() -> None:
    exchange, _ = placed(b'{"model":"chat-m"}', path="/v1/chat/completions")
    exchange.receive(a_response_head())
    assert exchange.receive(DeadlineReached(RESPONSE_AT)) == ()


def test_transcript_asked_for_as_text_is_text() -> None:
    exchange, _ = transcribing(b"text")
    exchange.receive(a_placed())
    assert only(exchange.receive(a_response_head()), Continue) == Continue(Phase.RESPONSE_HEAD, buffer_response=True)
    answer = only(exchange.receive(a_response_body(b'{"text":"hi \\u00e9","usage":{}}')), Continue)
    assert answer.body == "hi é\n".encode()
    assert ("content-type", "text/plain; charset=utf-8") in answer.set_headers
    assert ("content-length", "6") in answer.set_headers


def test_transcript_that_is_none_passes_as_it_is() -> None:
    exchange, _ = transcribing(b"text")
    exchange.receive(a_placed())
    exchange.receive(a_response_head())
    assert only(exchange.receive(a_response_body(b"plain already")), Continue).body is None


@pytest.mark.parametrize("wanted", [b"srt", b"vtt"])
def test_subtitles_are_refused_before_an_engine_is_asked(wanted: bytes) -> None:
    _, outputs = transcribing(wanted)
    error = json.loads(only(outputs, Immediate).body)["error"]
    assert (error["code"], error["param"]) == ("unsupported_value", "response_format")


def test_messages_operation_fails_in_the_shape_of_its_own_sdk() -> None:
    exchange = Exchange(ExchangePolicy())
    exchange.receive(a_request_head(path="/v1/messages"))
    (answer,) = exchange.receive(Refused(Problem("missing_api_key")))
    assert isinstance(answer, Immediate)
    body = json.loads(answer.body)
    assert (body["type"], body["error"]["type"]) == ("error", "authentication_error")


@pytest.mark.parametrize(("allowed", "removed"), [(True, False), (False, True)])
def test_engine_controls_pass_only_for_callers_who_may_use_them(allowed: bool, removed: bool) -> None:
    caller = Caller("team", engine_controls=allowed)
    _, forward = placed(
        b'{"model":"chat-m"}', path="/v1/chat/completions", caller=caller, head={"x-vllm-priority": "1"}
    )
    assert ("x-vllm-priority" in forward.remove_headers) is removed


def test_engine_is_asked_for_an_answer_without_compression() -> None:
    _, forward = placed(b'{"model":"chat-m"}', path="/v1/chat/completions", head={"accept-encoding": "gzip, br"})
    assert ("accept-encoding", "identity") in forward.set_headers


def test_metered_stream_asks_for_usage_and_tells_the_filter_to_hide_it() -> None:
    policy = ExchangePolicy(metering=True)
    _, forward = placed(b'{"model":"chat-m","stream":true}', path="/v1/chat/completions", policy=policy)
    assert json.loads(forward.body or b"") == {
        "stream_options": {"include_usage": True}, "model": "chat-m", "stream": True,
    }  # fmt: skip
    assert forward.dynamic_metadata is not None
    assert (forward.dynamic_metadata.hide_usage, forward.dynamic_metadata.stream) == (True, "data_done")


def test_metered_stream_whose_client_asked_for_usage_is_left_alone() -> None:
    body = b'{"model":"chat-m","stream":true,"stream_options":{"include_usage":true}}'
    _, forward = placed(body, path="/v1/chat/completions", policy=ExchangePolicy(metering=True))
    assert forward.body is None
    assert forward.dynamic_metadata is not None
    assert not forward.dynamic_metadata.hide_usage


def test_placement_with_one_endpoint_names_it_for_every_attempt() -> None:
    assert a_placement(an_endpoint(1)).destination() == ",".join(["10.0.0.1:8000"] * 4)


def test_operation_that_engines_have_elsewhere_is_sent_there() -> None:
    _, forward = placed(b'{"model":"chat-m","input":"x"}', path="/v1/classify?x=1")
    assert (":path", "/classify?x=1") in forward.set_headers


@pytest.mark.parametrize(
    "head",
    [{"headers": {"content-type": "text/html"}}, {"end_of_stream": True}, {"headers": {"content-length": "0"}},
     {"status": 101}],
    ids=["html", "no body", "empty body", "another protocol"],
)  # fmt: skip
def test_success_that_is_no_answer_is_a_bad_gateway(head: dict[str, Any]) -> None:
    exchange, _ = placed(b'{"model":"chat-m"}', path="/v1/chat/completions")
    answer = only(exchange.receive(a_response_head(**head)), Immediate)
    assert (answer.status, json.loads(answer.body)["error"]["code"]) == (502, "bad_gateway")


SHORT = {"content-length": "60", "server": "uvicorn"}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"error":{"message":"boom","type":"InternalServerError","param":null,"code":500}}', 500),
        (b'{"error":{"message":"n must be at least 1.","type":"BadRequestError","param":"n","code":400}}', 400),
        (b'{"object":"error","message":"no","code":503}', 503),
        (b'{"error":"Unauthorized"}', 500),
    ],
    ids=["error", "refusal", "flat", "text"],
)
def test_error_that_comes_as_a_success_is_told_as_what_it_is(body: bytes, status: int) -> None:
    exchange, _ = placed(b'{"model":"chat-m"}', path="/v1/chat/completions")
    asked = only(exchange.receive(a_response_head(headers=SHORT)), Continue)
    assert asked.buffer_response
    answer = only(exchange.receive(a_response_body(body)), Continue)
    assert dict(answer.set_headers)[":status"] == str(status)
    assert set(json.loads(answer.body or b"")["error"]) == {"message", "type", "param", "code"}
    assert "server" in answer.remove_headers
    (finished,) = exchange.receive(a_closing())
    assert getattr(finished, "outcome", None) is Outcome.ENGINE_ERROR


@pytest.mark.parametrize(
    "body", [b'{"id":"c","error":null}', b"{}", b"[1]", b"{", b"\xff", b"[" * 5000, b'{"error":{}}']
)
def test_short_answer_that_is_no_error_passes_with_our_headers(body: bytes) -> None:
    exchange, _ = placed(b'{"model":"chat-m"}', path="/v1/completions")
    assert only(exchange.receive(a_response_head(headers=SHORT)), Continue).buffer_response
    answer = only(exchange.receive(a_response_body(body)), Continue)
    assert (answer.phase, answer.body, answer.remove_headers) == (Phase.RESPONSE_BODY, None, ("server",))
    assert {"x-request-id", "openai-processing-ms"} <= dict(answer.set_headers).keys()
    (finished,) = exchange.receive(a_closing())
    assert getattr(finished, "outcome", None) is Outcome.SERVED


@pytest.mark.parametrize(
    ("path", "head"),
    [
        ("/tokenize", {"content-length": "60"}),
        ("/v1/chat/completions", {"content-length": str(MAX_SHORT_BYTES + 1)}),
        ("/v1/chat/completions", {"content-length": "60", "content-type": "text/event-stream"}),
        ("/v1/chat/completions", {}),
    ],
    ids=["short by nature", "long", "stream", "chunked"],
)
def test_answer_that_may_well_be_good_is_not_asked_for(path: str, head: dict[str, str]) -> None:
    exchange, _ = placed(b'{"model":"chat-m","prompt":"x"}', path=path)
    assert not only(exchange.receive(a_response_head(headers=head)), Continue).buffer_response
