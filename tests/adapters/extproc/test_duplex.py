"""FULL_DUPLEX_STREAMED: what a data plane that streams bodies hears from us, message by message."""

import json

import pytest

from aibrix_extproc.adapters.extproc._generated.external_processor_pb2 import ProcessingMode, ProcessingRequest
from aibrix_extproc.adapters.extproc.duplex import (
    JOINED_BYTES,
    MAX_BUFFERED_RESPONSE_BYTES,
    RESPONSE_BODY_SECONDS,
    Direction,
)
from aibrix_extproc.adapters.extproc.outgoing import PIECE_BYTES
from aibrix_extproc.core.exchange import events
from aibrix_extproc.core.exchange.asks import Authenticate, Place
from aibrix_extproc.core.exchange.outputs import Moved, Outcome, Phase
from tests.adapters.extproc.streamed import (
    BODY,
    CHAT,
    HEAD,
    TRAILERS,
    Conversation,
    a_conversation,
    piece,
    removed_headers,
    request_body,
    request_head,
    request_trailers,
    response_body,
    response_head,
    response_trailers,
    set_headers,
)
from tests.build import MAX_BODY_BYTES, a_request_body

DESTINATION = "x-gateway-destination-endpoint"
BODY_MODE = ProcessingMode.BodySendMode
NO_MODEL = b'{"object":"error","message":"The model `x` does not exist.","code":404}'


def placed(**options: object) -> Conversation:
    """A chat completion that is on its way to an engine."""
    talk = a_conversation(**options)  # type: ignore[arg-type]
    talk.tell(request_head())
    talk.tell(request_body(CHAT, end=True))
    talk.said.clear()
    return talk


def of_size(size: int) -> bytes:
    """A chat completion of exactly this size."""
    short = len(a_request_body(padding="").data)
    return a_request_body(padding="x" * (size - short)).data


# ---- request


def test_head_is_answered_with_the_placement_once_the_body_is_whole() -> None:
    talk = a_conversation()
    assert talk.tell(request_head()) == []
    assert talk.tell(request_body(CHAT[:10])) == []
    head, body = talk.tell(request_body(CHAT[10:], end=True))
    assert head.WhichOneof("response") == HEAD
    listed = set_headers(head)[DESTINATION]
    assert listed.startswith("10.0.0.1:8000,10.0.0.2:8000")
    assert head.dynamic_metadata.fields["envoy.lb"].struct_value.fields[DESTINATION].string_value == listed
    assert head.request_headers.response.clear_route_cache
    assert not head.HasField("mode_override")
    assert piece(body) == (CHAT, True)


@pytest.mark.parametrize(
    ("size", "messages"),
    [
        (0, 1),
        (PIECE_BYTES - 1000, 1),
        (PIECE_BYTES, 1),
        (PIECE_BYTES + 1, 2),
        (PIECE_BYTES + 1000, 2),
        (2 * PIECE_BYTES + 1000, 3),
    ],
)
def test_body_goes_on_in_pieces_of_a_bounded_size_with_the_end_on_the_last(size: int, messages: int) -> None:
    talk = placed()
    talk.tell(response_head())
    body = b"x" * size
    replies = talk.tell(response_body(body, end=True))
    pieces = [piece(one) for one in replies]
    assert [end for _, end in pieces] == [False] * (messages - 1) + [True]
    assert b"".join(data for data, _ in pieces) == body
    assert max(len(data) for data, _ in pieces) <= PIECE_BYTES


def test_large_request_goes_on_in_pieces_behind_one_head() -> None:
    talk = a_conversation()
    body = of_size(90_000)
    talk.tell(request_head())
    talk.tell(request_body(body, end=True))
    assert talk.kinds() == [HEAD, BODY, BODY]
    assert talk.body() == body


def test_body_of_one_byte_too_much_is_refused_before_its_end() -> None:
    talk = a_conversation()
    talk.tell(request_head())
    assert talk.tell(request_body(b"x" * MAX_BODY_BYTES)) == []
    (refusal,) = talk.tell(request_body(b"x"))
    assert refusal.immediate_response.status.code == 413
    assert set_headers(refusal)["content-type"] == "application/json"
    assert json.loads(refusal.immediate_response.body)["error"]["code"] == "request_too_large"
    assert talk.tell(request_body(b"x" * 1000, end=True)) == []
    talk.session.close(events.Cause.HALF_CLOSED)
    assert (talk.dispatcher.finished.problem, talk.dispatcher.finished.status) == ("request_too_large", 413)


def test_body_of_the_largest_size_is_taken() -> None:
    talk = a_conversation()
    body = of_size(MAX_BODY_BYTES)
    talk.tell(request_head())
    talk.tell(request_body(body))
    talk.tell(request_body(b"", end=True))
    assert talk.body() == body


def test_body_of_tiny_pieces_is_kept_whole_in_few_of_them() -> None:
    direction = Direction((Phase.REQUEST_HEAD, Phase.REQUEST_BODY, Phase.REQUEST_TRAILERS), 100_000, streams=True)
    sent = bytes(number % 251 for number in range(100_000))
    assert all(direction.keep(sent[at : at + 1]) for at in range(len(sent)))
    assert len(direction.pieces) <= 100_000 // JOINED_BYTES + 1
    assert direction.whole() == sent
    assert not direction.keep(b"x")


def test_end_that_is_told_twice_is_heard_once() -> None:
    talk = a_conversation()
    talk.tell(request_head())
    talk.tell(request_body(CHAT, end=True))
    said = list(talk.said)
    assert talk.tell(request_body(b"", end=True)) == []
    assert talk.tell(request_body(b"more", end=True)) == []
    assert talk.said == said


def test_trailers_end_a_body_and_are_answered_behind_it() -> None:
    talk = a_conversation()
    talk.tell(request_head())
    assert talk.tell(request_body(CHAT)) == []
    head, body, trailers = talk.tell(request_trailers())
    assert DESTINATION in set_headers(head)
    assert piece(body) == (CHAT, False)
    assert trailers.WhichOneof("response") == TRAILERS


def test_trailers_without_a_body_end_an_empty_one() -> None:
    talk = a_conversation()
    talk.tell(request_head())
    (refusal,) = talk.tell(request_trailers())
    assert refusal.immediate_response.status.code == 400


def test_request_without_a_body_is_answered_at_once() -> None:
    talk = a_conversation()
    (answer,) = talk.tell(request_head("GET", "/v1/models", end_of_stream=True))
    assert answer.immediate_response.status.code == 200
    assert not [ask for ask in talk.dispatcher.asks if isinstance(ask, Place)]


def test_request_that_its_path_places_goes_on_piece_by_piece() -> None:
    talk = a_conversation()
    (head,) = talk.tell(request_head("DELETE", "/v1/responses/resp_1"))
    assert DESTINATION in set_headers(head)
    (first,) = talk.tell(request_body(b"{"))
    (last,) = talk.tell(request_body(b"}", end=True))
    assert (piece(first), piece(last)) == ((b"{", False), (b"}", True))


def test_forged_headers_are_removed_and_the_destination_is_set() -> None:
    talk = a_conversation()
    talk.tell(request_head(target_pod="10.9.9.9:1", x_gateway_destination_endpoint="10.9.9.9:1"))
    head, _ = talk.tell(request_body(CHAT, end=True))
    assert removed_headers(head).count("target-pod") == 1
    assert DESTINATION not in removed_headers(head)
    assert "10.9.9.9" not in set_headers(head)[DESTINATION]


def test_body_that_we_change_goes_on_changed() -> None:
    talk = a_conversation()
    body = b'{"model":"chat-m","input":"Hi","session_id":"mine"}'
    talk.tell(request_head(path="/v1/responses", content_length=str(len(body))))
    head, changed = talk.tell(request_body(body, end=True))
    assert piece(changed)[0] == body.replace(b'"mine"', b"null")
    assert set_headers(head)["content-length"] == str(len(piece(changed)[0]))


def test_refusal_of_the_body_is_the_only_answer() -> None:
    talk = a_conversation()
    talk.tell(request_head())
    (refusal,) = talk.tell(request_body(b"{", end=True))
    assert refusal.immediate_response.status.code == 400
    assert talk.tell(response_head()) == []


# ---- response


def test_good_answer_passes_head_first_and_piece_by_piece() -> None:
    talk = placed()
    (head,) = talk.tell(response_head(content_type="text/event-stream"))
    assert head.WhichOneof("response") == "response_headers"
    assert not head.HasField("mode_override")
    assert "x-request-id" in set_headers(head)
    for data in (b"data: 1\n", b"\n", b""):
        assert [piece(one) for one in talk.tell(response_body(data))] == [(data, False)]
    assert [piece(one) for one in talk.tell(response_body(b"data: [DONE]\n\n", end=True))] == [
        (b"data: [DONE]\n\n", True)
    ]
    assert talk.tell(response_body(b"", end=True)) == []


def test_trailers_of_an_answer_are_answered() -> None:
    talk = placed()
    talk.tell(response_head())
    talk.tell(response_body(b"{}"))
    (trailers,) = talk.tell(response_trailers())
    assert trailers.WhichOneof("response") == "response_trailers"


@pytest.mark.parametrize("by_trailers", [False, True], ids=["end", "trailers"])
def test_error_of_an_engine_is_held_and_goes_on_in_the_words_of_the_api(by_trailers: bool) -> None:
    talk = placed()
    assert talk.tell(response_head(404, content_encoding="identity")) == []
    assert talk.session.wait_seconds == RESPONSE_BODY_SECONDS
    assert talk.tell(response_body(NO_MODEL[:20])) == []
    talk.tell(response_body(NO_MODEL[20:], end=not by_trailers))
    if by_trailers:
        talk.tell(response_trailers())
    assert talk.kinds() == ["response_headers", "response_body", *["response_trailers"] * by_trailers]
    head, body = talk.said[0], talk.said[1]
    shaped, ended = piece(body)
    assert json.loads(shaped)["error"]["code"] == "model_not_found"
    assert ended is not by_trailers
    assert set_headers(head) | {":status": "404", "content-length": str(len(shaped))} == set_headers(head)
    assert removed_headers(head) == ["content-encoding"]


def test_error_without_a_body_is_answered_at_once() -> None:
    talk = placed()
    (answer,) = talk.tell(response_head(500, end_of_stream=True))
    assert answer.immediate_response.status.code == 500


def test_short_answer_that_is_none_is_held_and_passes_as_it_is() -> None:
    talk = placed()
    assert talk.tell(response_head(content_length="30")) == []
    head, body = talk.tell(response_body(b'{"id":"x","choices":[{}]}     ', end=True))
    assert "x-request-id" in set_headers(head)
    assert piece(body) == (b'{"id":"x","choices":[{}]}     ', True)


def test_endless_error_is_cut_short() -> None:
    talk = placed()
    talk.tell(response_head(500))
    assert talk.tell(response_body(b"x" * MAX_BUFFERED_RESPONSE_BYTES)) == []
    (answer,) = talk.tell(response_body(b"x"))
    assert answer.immediate_response.status.code == 500
    assert json.loads(answer.immediate_response.body)["error"]["type"] == "server_error"
    assert set(set_headers(answer)).isdisjoint({":status", "content-length"})
    assert talk.tell(response_body(b"x")) == []


def test_error_that_does_not_end_is_cut_short_in_time() -> None:
    talk = placed()
    talk.tell(response_head(404))
    talk.tell(response_body(NO_MODEL))
    (answer,) = talk.heard(talk.session.expire())
    assert answer.immediate_response.status.code == 404
    assert json.loads(answer.immediate_response.body)["error"]["code"] == "model_not_found"
    assert talk.session.expire() == []


def test_transcript_that_does_not_end_passes_as_it_is() -> None:
    talk = a_conversation()
    form = (
        b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\nchat-m\r\n'
        b'--B\r\nContent-Disposition: form-data; name="response_format"\r\n\r\ntext\r\n'
        b'--B\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx\r\n--B--\r\n'
    )
    talk.tell(request_head(path="/v1/audio/transcriptions", content_type="multipart/form-data; boundary=B"))
    talk.tell(request_body(form, end=True))
    assert talk.tell(response_head()) == []
    talk.tell(response_body(b'{"text":'))
    head, body = talk.heard(talk.session.expire())
    assert head.WhichOneof("response") == "response_headers"
    assert piece(body) == (b'{"text":', False)
    assert [piece(one) for one in talk.tell(response_body(b'"a"}', end=True))] == [(b'"a"}', True)]


# ---- modes


def test_stream_that_says_nothing_of_modes_is_buffered_unless_told_otherwise() -> None:
    talk = a_conversation(request=None, response=None)
    assert [one.WhichOneof("response") for one in talk.tell(request_head())] == [HEAD]
    talk = a_conversation(request=None, response=None, assume_duplex=True)
    assert talk.tell(request_head()) == []


def test_data_plane_that_says_how_it_sends_is_believed() -> None:
    talk = a_conversation(request=BODY_MODE.BUFFERED, response=None, assume_duplex=True)
    assert [one.WhichOneof("response") for one in talk.tell(request_head())] == [HEAD]
    assert talk.session.wait_seconds is None


def test_only_the_request_may_be_streamed() -> None:
    talk = placed(response=None)
    (head,) = talk.tell(response_head(404))
    assert head.mode_override.response_body_mode == BODY_MODE.BUFFERED
    (body,) = talk.tell(response_body(NO_MODEL, end=True))
    assert b"model_not_found" in body.response_body.response.body_mutation.body


def test_only_the_response_may_be_streamed() -> None:
    talk = a_conversation(request=BODY_MODE.BUFFERED)
    assert [one.WhichOneof("response") for one in talk.tell(request_head())] == [HEAD]
    (body,) = talk.tell(request_body(CHAT, end=True))
    assert DESTINATION in set_headers(body)
    talk.tell(response_head())
    assert [piece(one) for one in talk.tell(response_body(b"{}", end=True))] == [(b"{}", True)]


def test_body_whose_head_is_never_sent_passes() -> None:
    talk = placed()
    assert [piece(one) for one in talk.tell(response_body(b"{}", end=True))] == [(b"{}", True)]


# ---- time, bugs, disorder


def test_body_that_never_ends_is_answered_when_the_longest_wait_is_over() -> None:
    talk = a_conversation()
    talk.tell(request_head())
    assert talk.session.wait_seconds == 600.0
    talk.tell(request_body(CHAT))
    (answer,) = talk.heard(talk.session.expire())
    assert answer.immediate_response.status.code == 504
    assert talk.tell(request_body(b"", end=True)) == []


def test_placement_sets_the_deadline_that_the_client_asked_for() -> None:
    talk = a_conversation()
    talk.tell(request_head(x_stainless_read_timeout="5"))
    talk.tell(request_body(CHAT, end=True))
    assert talk.session.wait_seconds == 6.0  # a second longer than the client


@pytest.mark.parametrize("broken", [Authenticate, Place])
def test_bug_before_the_response_is_a_json_500(broken: type) -> None:
    talk = a_conversation()
    talk.dispatcher.breaks = broken
    talk.tell(request_head())
    talk.tell(request_body(CHAT, end=True))
    (answer,) = talk.said
    assert answer.immediate_response.status.code == 500
    assert talk.dispatcher.bugs == 1


def test_bug_after_the_response_began_lets_it_pass() -> None:
    talk = placed()
    talk.dispatcher.breaks = Moved
    (head,) = talk.tell(response_head(404, upstream_address="10.0.0.2:8000"))
    assert head.WhichOneof("response") == "response_headers"
    assert [piece(one) for one in talk.tell(response_body(NO_MODEL, end=True))] == [(NO_MODEL, True)]
    talk.session.close(events.Cause.HALF_CLOSED)
    assert talk.dispatcher.finished.outcome is Outcome.INTERNAL_ERROR


def test_second_head_is_ignored(caplog: pytest.LogCaptureFixture) -> None:
    talk = a_conversation()
    talk.tell(request_head())
    assert talk.tell(request_head()) == []
    assert "second head" in caplog.text
    talk.tell(request_body(CHAT, end=True))
    assert talk.kinds() == [HEAD, BODY]


def test_answer_of_envoy_while_a_body_is_awaited_is_shaped() -> None:
    talk = a_conversation()
    talk.tell(request_head())
    talk.tell(request_body(CHAT[:5]))
    (answer,) = talk.tell(response_head(408, code_details="request_overall_timeout", upstream_address=""))
    assert answer.immediate_response.status.code == 504


def test_message_of_no_kind_is_ignored() -> None:
    talk = a_conversation()
    assert talk.tell(ProcessingRequest()) == []
