"""Conversations up to the placement: what goes in, what comes out, one test per way that a request can go."""

import json
from typing import Any

import pytest
from msgspec.structs import replace

from aibrix_extproc.core.exchange.asks import Admitted, Authenticate, Describe, Described, Place, Refused
from aibrix_extproc.core.exchange.events import RequestTrailers
from aibrix_extproc.core.exchange.machine import Exchange
from aibrix_extproc.core.exchange.outputs import Continue, Immediate, Outcome, Phase, WaitFor
from aibrix_extproc.core.exchange.policy import ExchangePolicy
from aibrix_extproc.core.exchange.states import Mode, ProtocolViolation
from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.contract.headers import NOT_FORWARDED, RESERVED_REQUEST_HEADERS
from aibrix_extproc.core.placing import RouteQuery, RoutingHeaders
from tests.build import (
    CALLER,
    JSON_HEADERS,
    MAX_BODY_BYTES,
    REQUEST_ID,
    a_closing,
    a_placed,
    a_placement,
    a_request_body,
    a_request_head,
    a_response_head,
    an_endpoint,
    an_exchange,
    an_operation,
)

OWN_HEADERS = (("x-request-id", REQUEST_ID), ("openai-version", "2020-10-01"))


def refused(exchange: Exchange, outputs: tuple[object, ...]) -> dict[str, Any]:
    """The only output is a final answer in OpenAI's shape; its status, details, headers and error object."""
    (answer,) = outputs
    assert isinstance(answer, Immediate)
    assert exchange.mode is Mode.ABSORBING
    headers = dict(answer.headers)
    assert len(headers) == len(answer.headers), "a header is set twice"
    assert headers["content-type"] == "application/json"
    assert headers["x-request-id"] == REQUEST_ID
    error = json.loads(answer.body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert answer.details.startswith("ext_proc_")
    return {"status": answer.status, "headers": headers, "key": answer.details.removeprefix("ext_proc_"), **error}


def admitted(**head: Any) -> tuple[Exchange, tuple[object, ...]]:
    """An exchange whose caller was just let in, and what followed."""
    exchange = an_exchange()
    exchange.receive(a_request_head(**head))
    return exchange, exchange.receive(Admitted(CALLER))


def placing(body: Any = None, **head: Any) -> Exchange:
    """An exchange that waits for its placement."""
    exchange, _ = admitted(**head)
    exchange.receive(body or a_request_body())
    return exchange


def test_chat_is_authenticated_then_read_then_placed() -> None:
    exchange = an_exchange()
    chat = an_operation("chat_completion")
    assert exchange.receive(a_request_head()) == (Authenticate(chat, "Bearer sk-client", None, request_id=REQUEST_ID),)
    assert exchange.receive(Admitted(CALLER)) == (Continue(Phase.REQUEST_HEAD),)
    body = a_request_body()
    query = RouteQuery("chat-m", body_bytes=len(body.data), caller=CALLER.name)
    assert exchange.receive(body) == (Place(chat, query, None, CALLER, request_id=REQUEST_ID),)
    taken, forward, wait = exchange.receive(a_placed())
    assert getattr(taken, "identity", None) == "engine-1"
    assert wait == WaitFor(ExchangePolicy().max_wait_seconds)
    assert forward == Continue(
        Phase.REQUEST_BODY,
        set_headers=(("x-request-id", REQUEST_ID),),
        remove_headers=("authorization",),
        destination="10.0.0.1:8000,10.0.0.2:8000,10.0.0.1:8000,10.0.0.2:8000",
    )


def test_keys_of_both_kinds_are_shown_to_the_key_ring() -> None:
    outputs = an_exchange().receive(a_request_head(x_api_key="sk-other"))
    assert outputs == (
        Authenticate(an_operation("chat_completion"), "Bearer sk-client", "sk-other", request_id=REQUEST_ID),
    )


def test_refused_key_becomes_the_final_answer() -> None:
    exchange = an_exchange()
    exchange.receive(a_request_head(without=("authorization",)))
    answer = refused(exchange, exchange.receive(Refused(Problem("missing_api_key"))))
    assert (answer["status"], answer["key"]) == (401, "missing_api_key")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/v1/nothing", "Invalid URL (POST /v1/nothing)"),
        ("/v1/nothing/?x=1", "Invalid URL (POST /v1/nothing)"),
        ("/v1/chat/completions/x", "Invalid URL (POST /v1/chat/completions/x)"),
        ("/v1/images/generations", "Invalid URL (POST /v1/images/generations)"),
        ("/v1/files", "Invalid URL (POST /v1/files)"),
    ],
)
def test_unknown_url_below_v1_is_a_404_once_the_key_is_good(path: str, message: str) -> None:
    exchange, outputs = admitted(path=path)
    answer = refused(exchange, outputs)
    assert (answer["status"], answer["message"], answer["code"]) == (404, message, None)


@pytest.mark.parametrize("path", ["/", "/chat/completions", "/metrics", "/sleep", "/nothing"])
def test_unknown_url_and_engine_internals_outside_v1_are_a_404_with_the_hint(path: str) -> None:
    exchange, outputs = admitted(path=path)
    answer = refused(exchange, outputs)
    assert (answer["status"], answer["code"]) == (404, "unknown_url")
    assert f"POST {path}." in answer["message"]


def test_unknown_url_is_authenticated_without_an_operation() -> None:
    outputs = an_exchange().receive(a_request_head(path="/v1/nothing"))
    assert outputs == (Authenticate(None, "Bearer sk-client", None, request_id=REQUEST_ID),)


def test_wrong_method_is_a_405_that_names_the_right_one() -> None:
    exchange, outputs = admitted(method="GET", end_of_stream=True)
    answer = refused(exchange, outputs)
    assert (answer["status"], answer["code"]) == (405, "method_not_supported")
    assert answer["headers"]["allow"] == "POST"


def test_unknown_model_is_what_the_answer_to_place_says() -> None:
    exchange = placing(a_request_body(model="gpt-9"))
    answer = refused(exchange, exchange.receive(Refused(Problem("model_not_found", {"model": "gpt-9"}))))
    assert (answer["status"], answer["code"], answer["param"]) == (404, "model_not_found", None)
    assert "`gpt-9` does not exist" in answer["message"]


@pytest.mark.parametrize("length", [MAX_BODY_BYTES + 1, 10**18])
def test_content_length_over_the_limit_is_a_413_before_the_body(length: int) -> None:
    exchange, outputs = admitted(content_length=str(length))
    answer = refused(exchange, outputs)
    assert (answer["status"], answer["code"]) == (413, "request_too_large")
    assert str(MAX_BODY_BYTES) in answer["message"]


@pytest.mark.parametrize("length", [str(MAX_BODY_BYTES), "", "-1", "many", "\u00b2", "9" * 5000])
def test_content_length_within_the_limit_or_unreadable_lets_the_body_come(length: str) -> None:
    _, outputs = admitted(content_length=length)
    assert outputs == (Continue(Phase.REQUEST_HEAD),)


@pytest.mark.parametrize(("size", "passes"), [(MAX_BODY_BYTES, True), (MAX_BODY_BYTES + 1, False)])
def test_body_without_content_length_is_measured(size: int, passes: bool) -> None:
    exchange, _ = admitted()
    filled = json.dumps({"model": "chat-m", "input": ""}).encode()
    outputs = exchange.receive(a_request_body(filled.replace(b'""', b'"' + b"x" * (size - len(filled)) + b'"')))
    assert isinstance(outputs[0], Place) is passes
    if not passes:
        assert refused(exchange, outputs)["key"] == "request_too_large"


def test_audio_form_over_openai_limit_is_a_413_with_both_sizes() -> None:
    exchange = an_exchange(max_body_bytes=50_000_000)
    exchange.receive(
        a_request_head(
            path="/v1/audio/transcriptions", content_type="multipart/form-data; boundary=x", content_length="26270433"
        )
    )
    answer = refused(exchange, exchange.receive(Admitted(CALLER)))
    assert (answer["status"], answer["type"], answer["code"]) == (413, "server_error", None)
    assert answer["message"] == "413: Maximum content size limit (26214400) exceeded (26270433 bytes read)"


@pytest.mark.parametrize("encoding", ["gzip", "br", "GZIP", "identity, gzip"])
def test_compressed_body_is_a_415(encoding: str) -> None:
    exchange, outputs = admitted(content_encoding=encoding)
    answer = refused(exchange, outputs)
    assert (answer["status"], answer["code"]) == (415, "unsupported_content_encoding")


def test_identity_encoding_is_no_compression() -> None:
    _, outputs = admitted(content_encoding="Identity")
    assert outputs == (Continue(Phase.REQUEST_HEAD),)


@pytest.mark.parametrize("given", ["text/plain", "", "multipart/form-data; boundary=x", "application/jsonl"])
def test_wrong_content_type_is_a_400_that_names_the_right_one(given: str) -> None:
    exchange, outputs = admitted(content_type=given)
    answer = refused(exchange, outputs)
    assert (answer["status"], answer["code"]) == (400, "unsupported_content_type")
    assert "'application/json'" in answer["message"]


def test_json_for_an_audio_form_is_a_400_that_names_the_form() -> None:
    exchange, outputs = admitted(path="/v1/audio/transcriptions")
    assert "'multipart/form-data'" in refused(exchange, outputs)["message"]


@pytest.mark.parametrize("given", ["application/json; charset=utf-8", "Application/JSON", " application/json "])
def test_content_type_is_compared_without_case_and_parameters(given: str) -> None:
    _, outputs = admitted(content_type=given)
    assert outputs == (Continue(Phase.REQUEST_HEAD),)


@pytest.mark.parametrize("without", [(), ("content-type",)])
def test_request_without_a_body_is_malformed_json(without: tuple[str, ...]) -> None:
    exchange, outputs = admitted(end_of_stream=True, without=without)
    assert refused(exchange, outputs)["key"] == "malformed_json"


def test_malformed_body_is_a_400_and_is_never_placed() -> None:
    exchange, _ = admitted()
    assert refused(exchange, exchange.receive(a_request_body(b'{"model": ')))["key"] == "malformed_json"


def test_path_is_normalised_for_the_engine_and_keeps_its_query() -> None:
    exchange = placing(path="//v1//chat/completions/?trace=1")
    forward = exchange.receive(a_placed())[1]
    assert isinstance(forward, Continue)
    assert (":path", "/v1/chat/completions?trace=1") in forward.set_headers


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/chat/completions?trace=1"])
def test_normal_path_is_not_sent_back(path: str) -> None:
    forward = placing(path=path).receive(a_placed())[1]
    assert isinstance(forward, Continue)
    assert forward.set_headers == (("x-request-id", REQUEST_ID),)


def test_engine_key_is_injected_and_every_credential_of_the_client_removed() -> None:
    exchange = placing(x_api_key="sk-client", openai_organization="org", routing_strategy="random")
    forward = exchange.receive(a_placed(a_placement(an_endpoint(api_key="sk-engine"))))[1]
    assert isinstance(forward, Continue)
    assert ("authorization", "Bearer sk-engine") in forward.set_headers
    assert set(forward.remove_headers) >= {"x-api-key", "openai-organization", "routing-strategy"}


@pytest.mark.parametrize("name", NOT_FORWARDED)
def test_header_that_engines_must_not_see_is_removed(name: str) -> None:
    keyless = ("authorization",) if name != "authorization" else ()
    forward = placing(headers={name: "forged"}, without=keyless).receive(a_placed())[1]
    assert isinstance(forward, Continue)
    assert forward.remove_headers == (name,)


@pytest.mark.parametrize("name", RESERVED_REQUEST_HEADERS)
def test_forged_header_of_ours_is_removed_with_the_first_answer(name: str) -> None:
    _, outputs = admitted(headers={name: "10.9.9.9:1"})
    assert outputs == (Continue(Phase.REQUEST_HEAD, remove_headers=(name,)),)


def test_strategy_of_the_client_goes_with_the_question() -> None:
    exchange, _ = admitted(routing_strategy="round-robin")
    (ask,) = exchange.receive(a_request_body())
    assert isinstance(ask, Place)
    assert ask.headers == RoutingHeaders(strategy="round-robin")


@pytest.mark.parametrize(
    ("sent", "session"),
    [
        ({"x-session-id": "a"}, "a"),
        ({"x-aibrix-session-key": "b"}, "b"),
        ({"x-session-id": "a", "x-aibrix-session-key": "b"}, "a"),
        ({"x-session-id": "", "x-aibrix-session-key": "b"}, "b"),
        ({"x-session-id": "a" * 257, "x-aibrix-session-key": "b"}, "b"),
        ({"x-session-id": "a" * 256}, "a" * 256),
        ({"x-aibrix-session-key": "b" * 257}, None),
    ],
    ids=["id", "key", "both", "empty-id", "long-id", "longest-id", "long-key"],
)
def test_session_of_the_client_is_its_id_before_its_key_within_bounds(sent: dict[str, str], session: str) -> None:
    exchange, _ = admitted(headers=sent)
    (ask,) = exchange.receive(a_request_body())
    assert isinstance(ask, Place)
    assert ask.headers == RoutingHeaders(session=session)


@pytest.mark.parametrize(
    ("profile", "prompt", "answer"),
    [("auto", 8, 300), (" AUTO ", 8, 300), ("fast", None, None)],
    ids=["auto", "odd-auto", "named"],
)
def test_size_of_the_request_is_read_for_the_profile_auto_only(
    profile: str, prompt: int | None, answer: int | None
) -> None:
    exchange, _ = admitted(config_profile=profile, external_filter="a=b")
    (ask,) = exchange.receive(a_request_body(max_tokens=300))
    assert isinstance(ask, Place)
    assert ask.headers == RoutingHeaders(None, "a=b", profile, None, prompt, answer)


@pytest.mark.parametrize("status", [200, 503])
def test_what_the_placement_tells_the_client_goes_with_every_answer(status: int) -> None:
    exchange = placing(x_session_id="s")
    exchange.receive(replace(a_placed(), answer_headers=(("x-session-id", "s"),)))
    (*_, reply) = exchange.receive(a_response_head(status, end_of_stream=status != 200))
    sent = reply.set_headers if isinstance(reply, Continue) else getattr(reply, "headers", ())
    assert ("x-session-id", "s") in sent


def test_listing_is_described_and_answered_here() -> None:
    exchange, outputs = admitted(method="GET", path="/v1/models/", end_of_stream=True)
    assert outputs == (Describe(an_operation("list_models"), {}, CALLER),)
    (answer,) = exchange.receive(Described(200, JSON_HEADERS, b'{"object":"list"}'))
    assert answer == Immediate(200, (*JSON_HEADERS, *OWN_HEADERS), b'{"object":"list"}', "ext_proc_answered")
    (finished,) = exchange.receive(a_closing())
    assert (getattr(finished, "status", 0), getattr(finished, "outcome", None)) == (200, Outcome.ANSWERED)


def test_model_id_reaches_the_question_as_it_stands_in_the_path() -> None:
    _, outputs = admitted(method="GET", path="/v1/models/org%2Fname:tag", end_of_stream=True)
    assert outputs == (Describe(an_operation("retrieve_model"), {"model": "org%2Fname:tag"}, CALLER),)


def test_audio_form_is_read_and_placed_by_its_model() -> None:
    exchange, outputs = admitted(path="/v1/audio/transcriptions", content_type="multipart/form-data; boundary=cut")
    assert outputs == (Continue(Phase.REQUEST_HEAD),)
    form = b'--cut\r\ncontent-disposition: form-data; name="model"\r\n\r\nwhisper\r\n--cut--\r\n'
    (ask,) = exchange.receive(a_request_body(form))
    assert isinstance(ask, Place)
    assert (ask.operation.id, ask.query.model) == ("transcription", "whisper")


def test_cut_audio_form_is_a_400() -> None:
    exchange, _ = admitted(path="/v1/audio/translations", content_type="multipart/form-data; boundary=cut")
    answer = refused(exchange, exchange.receive(a_request_body(b"--cut\r\ncontent-disp")))
    assert (answer["status"], answer["key"]) == (400, "malformed_multipart")


def test_stored_response_is_asked_of_the_engine_that_holds_it_without_waiting_for_a_body() -> None:
    exchange, outputs = admitted(method="GET", path="/v1/responses/resp_1", end_of_stream=True)
    (place,) = outputs
    assert isinstance(place, Place)
    assert place.stored_response == "resp_1"
    forward = exchange.receive(a_placed())[1]
    assert isinstance(forward, Continue)
    assert (forward.phase, forward.body) == (Phase.REQUEST_HEAD, None)
    assert forward.destination is not None


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_body_of_a_request_that_needs_none_passes_untouched(method: str) -> None:
    exchange, _ = admitted(method=method, path="/v1/responses/resp_1")
    exchange.receive(a_placed())
    received = [exchange.receive(event) for event in (a_request_body(b"whatever"), RequestTrailers(100.0))]
    assert received == [(Continue(Phase.REQUEST_BODY),), (Continue(Phase.REQUEST_TRAILERS),)]


def test_preflight_is_answered_without_authentication() -> None:
    exchange = an_exchange()
    (answer,) = exchange.receive(
        a_request_head("OPTIONS", end_of_stream=True, without=("authorization",), origin="https://app.example")
    )
    assert isinstance(answer, Immediate)
    assert (answer.status, answer.body) == (204, b"")
    assert len(headers := dict(answer.headers)) == len(answer.headers)
    assert headers["access-control-allow-origin"] == "https://app.example"
    assert "authorization" in headers["access-control-allow-headers"]
    (finished,) = exchange.receive(a_closing())
    assert getattr(finished, "outcome", None) is Outcome.ANSWERED


def test_page_of_another_origin_may_read_a_refusal() -> None:
    exchange, outputs = admitted(path="/v1/nothing", origin="https://app.example")
    headers = refused(exchange, outputs)["headers"]
    assert headers["access-control-allow-origin"] == "https://app.example"
    assert "x-request-id" in headers["access-control-expose-headers"]


def test_trailers_are_passed_on_while_the_body_is_awaited_and_after() -> None:
    exchange, _ = admitted()
    passed = (Continue(Phase.REQUEST_TRAILERS),)
    assert exchange.receive(RequestTrailers(100.0)) == passed
    exchange.receive(a_request_body())
    assert exchange.receive(RequestTrailers(100.0)) == passed
    exchange.receive(a_placed())
    assert exchange.receive(RequestTrailers(100.0)) == passed


def test_event_out_of_order_raises_and_changes_nothing() -> None:
    exchange, _ = admitted()
    for event in (a_request_head(), Admitted(CALLER), a_placed(), Described(200, (), b"")):
        with pytest.raises(ProtocolViolation):
            exchange.receive(event)
    assert isinstance(exchange.receive(a_request_body())[0], Place)
