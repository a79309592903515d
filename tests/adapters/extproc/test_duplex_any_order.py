"""FULL_DUPLEX_STREAMED whatever the cuts and whatever the order: what data planes and clients lean on."""

import json
from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.adapters.extproc._generated.external_processor_pb2 import ProcessingMode, ProcessingRequest
from aibrix_extproc.adapters.extproc.outgoing import PIECE_BYTES
from aibrix_extproc.core.exchange import events
from tests.adapters.extproc.streamed import (
    BODY,
    CHAT,
    HEAD,
    Conversation,
    a_conversation,
    piece,
    request_body,
    request_head,
    request_trailers,
    response_body,
    response_head,
    response_trailers,
)

ENGINE_ERROR = b'{"object":"error","message":"The model `x` does not exist.","code":404}'
REQUEST, RESPONSE = (
    ("request_headers", BODY, "request_trailers"),
    (
        "response_headers",
        "response_body",
        "response_trailers",
    ),
)
ENDS = st.sampled_from(("with the last piece", "with an empty piece", "with trailers"))
MODES = st.sampled_from([None, *ProcessingMode.BodySendMode.values()])


def cuts(body: bytes) -> st.SearchStrategy[list[bytes]]:
    """A body cut at any places; empty pieces included."""
    places = st.lists(st.integers(0, len(body)), max_size=6).map(lambda found: [0, *sorted(found), len(body)])
    return places.map(lambda found: [body[start:stop] for start, stop in pairwise(found)])


def tell(talk: Conversation, pieces: Sequence[bytes], end: str, *, response: bool = False) -> None:
    said, trailers = (response_body, response_trailers) if response else (request_body, request_trailers)
    last = len(pieces) - 1 if end == "with the last piece" else -1
    for at, data in enumerate(pieces):
        talk.tell(said(data, end=at == last))
    if end == "with an empty piece":
        talk.tell(said(b"", end=True))
    elif end == "with trailers":
        talk.tell(trailers())


def check_direction(talk: Conversation, names: tuple[str, str, str], body: bytes, end: str) -> None:
    """One head, the body, one end, in this order."""
    head, data, trailers = names
    kinds = [kind for kind in talk.kinds() if kind in names]
    assert kinds[0] == head
    assert kinds.count(head) == 1
    assert kinds.count(trailers) == (end == "with trailers")
    assert trailers not in kinds[:-1]
    assert talk.body(data) == body
    ends = [piece(one)[1] for one in talk.said if one.WhichOneof("response") == data]
    assert True not in ends[:-1]
    assert (True in ends) is (end != "with trailers")


@given(cuts(CHAT), ENDS)
def test_request_body_cut_at_any_places_goes_on_whole(pieces: list[bytes], end: str) -> None:
    talk = a_conversation()
    talk.tell(request_head())
    tell(talk, pieces, end)
    check_direction(talk, REQUEST, CHAT, end)


@given(cuts(b"data: 1\n\ndata: [DONE]\n\n"), ENDS)
def test_good_answer_cut_at_any_places_passes_as_it_is(pieces: list[bytes], end: str) -> None:
    talk = a_conversation()
    talk.tell(request_head())
    talk.tell(request_body(CHAT, end=True))
    talk.tell(response_head(content_type="text/event-stream"))
    tell(talk, pieces, end, response=True)
    check_direction(talk, RESPONSE, b"".join(pieces), end)


@given(cuts(ENGINE_ERROR), ENDS)
def test_error_cut_at_any_places_says_the_same(pieces: list[bytes], end: str) -> None:
    talk = a_conversation()
    talk.tell(request_head())
    talk.tell(request_body(CHAT, end=True))
    talk.tell(response_head(404))
    tell(talk, pieces, end, response=True)
    shaped = talk.body("response_body")
    assert json.loads(shaped)["error"]["code"] == "model_not_found"
    check_direction(talk, RESPONSE, shaped, end)


SIZES = st.sampled_from((0, 1, 30, PIECE_BYTES + 1, 120_000))
bodies = st.one_of(st.just(CHAT), st.just(b"{"), st.just(ENGINE_ERROR), SIZES.map(lambda size: b"x" * size))
messages = st.one_of(
    st.builds(
        lambda path, end: request_head(path=path, end_of_stream=end),
        st.sampled_from(("/v1/chat/completions", "/v1/models", "/v1/responses/resp_1/cancel", "/nothing")),
        st.booleans(),
    ),
    st.builds(lambda data, end: request_body(data, end=end), bodies, st.booleans()),
    st.builds(request_trailers),
    st.builds(
        lambda status, details, end: response_head(status, code_details=details, end_of_stream=end),
        st.sampled_from((200, 404, 500)),
        st.sampled_from(("via_upstream", "no_healthy_upstream")),
        st.booleans(),
    ),
    st.builds(lambda data, end: response_body(data, end=end), bodies, st.booleans()),
    st.builds(response_trailers),
    st.just(ProcessingRequest()),
    st.none(),  # a deadline
)


@given(MODES, MODES, st.booleans(), st.lists(messages, max_size=10))
def test_any_messages_in_any_order_are_survived_with_one_closing_fact(
    request: int | None, response: int | None, assumed: bool, told: list[ProcessingRequest | None]
) -> None:
    talk = a_conversation(request=request, response=response, assume_duplex=assumed)
    for message in told:
        if message is None:
            talk.heard(talk.session.expire())
        else:
            talk.tell(message)
    talk.session.close(events.Cause.CANCELLED)
    assert talk.dispatcher.finished is not None
    assert talk.dispatcher.bugs == 0


@given(st.lists(messages, max_size=12))
def test_replies_keep_to_the_protocol_whatever_comes(told: list[ProcessingRequest | None]) -> None:
    talk = a_conversation()
    talk.tell(request_head())
    for message in told:
        talk.heard(talk.session.expire()) if message is None else talk.tell(message)
    kinds = talk.kinds()
    assert kinds.count("immediate_response") <= 1
    assert "immediate_response" not in kinds[:-1], "a final answer is the last one"
    for head, data, _ in (REQUEST, RESPONSE):
        assert kinds.count(head) <= 1
        pieces = [piece(one) for one in talk.said if one.WhichOneof("response") == data]  # each one is streamed
        assert [end for _, end in pieces][:-1].count(True) == 0
        assert all(len(body) <= PIECE_BYTES for body, _ in pieces)
    assert BODY not in kinds or HEAD in kinds[: kinds.index(BODY)]
