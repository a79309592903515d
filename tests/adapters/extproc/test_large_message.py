"""Large messages: the body is taken out as it is, and what is no message of Envoy's is refused."""

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.adapters.extproc import encoding
from aibrix_extproc.adapters.extproc._generated.external_processor_pb2 import (
    HttpBody,
    ProcessingRequest,
    ProcessingResponse,
)
from aibrix_extproc.adapters.extproc.large_message import (
    MAX_AROUND_BYTES,
    MAX_FIELDS,
    LargeMessage,
    parse_large_message,
)
from aibrix_extproc.adapters.extproc.outgoing import PIECE_BYTES, BodyStream, whole_messages
from aibrix_extproc.core.exchange.outputs import Continue, DynamicMetadata, Phase
from aibrix_extproc.rope import Rope, rope_of

BODY = bytes(range(256)) * 40


def a_message(field: str = "request_body", body: bytes = BODY) -> ProcessingRequest:
    message = ProcessingRequest()
    getattr(message, field).CopyFrom(HttpBody(body=body, end_of_stream=True))
    message.metadata_context.filter_metadata["x"].fields["y"].string_value = "z" * 200
    message.attributes["a"].fields["b"].number_value = 1.5
    message.observability_mode = True
    return message


def in_pieces(data: bytes, size: int) -> Rope:
    return rope_of(data[at : at + size] for at in range(0, len(data), size))


@pytest.mark.parametrize("field", ["request_body", "response_body"])
@given(size=st.integers(1, 12_000), body=st.sampled_from((b"", b"x", BODY)))
def test_message_is_the_same_but_for_its_body(field: str, size: int, body: bytes) -> None:
    message = a_message(field, body)
    peeled = parse_large_message(in_pieces(message.SerializeToString(), size))
    assert peeled.body.joined() == body
    getattr(message, field).body = b""
    assert peeled.message == message


def test_body_is_not_copied() -> None:
    data = a_message().SerializeToString()
    pieces = parse_large_message(rope_of((data,))).body.pieces
    assert [piece.obj for piece in pieces if isinstance(piece, memoryview)] == [data]


@given(st.binary(max_size=60), st.integers(1, 9), st.integers(0, 300))
def test_any_bytes_are_a_message_or_refused(noise: bytes, size: int, at: int) -> None:
    data = a_message(body=b"abc").SerializeToString()
    for bent in (noise, data[:at], data[:at] + noise + data[at:]):
        try:
            found = parse_large_message(in_pieces(bent, size))
        except DecodeError:
            continue
        assert isinstance(found, LargeMessage)


@pytest.mark.parametrize(
    "data",
    [
        a_message().SerializeToString() * 2,
        b"\x42" + b"\xff\xff\xff\x7f" + bytes(100),
        a_message().SerializeToString() + ProcessingRequest(observability_mode=True).SerializeToString() * MAX_FIELDS,
        b"\x42\x81\x80\x40" + bytes(MAX_AROUND_BYTES + 1),
        b"\x80" * 11,
    ],
    ids=["two bodies", "longer than it is", "many fields", "large elsewhere", "endless number"],
)
def test_what_envoy_never_sends_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        parse_large_message(rope_of((data,)))


def test_large_answer_in_pieces_reads_like_one_that_was_encoded_whole() -> None:
    said = {
        "set_headers": (("content-length", "7"),),
        "destination": "10.0.0.1:80",
        "dynamic_metadata": DynamicMetadata("id", "chat", "m", "c", "sse", False, b"seal"),
    }
    in_one = encoding.encode(Continue(Phase.REQUEST_BODY, body=BODY, **said))  # type: ignore[arg-type]
    rope = encoding.encode_large(Continue(Phase.REQUEST_BODY, **said), in_pieces(BODY, 999))  # type: ignore[arg-type]
    assert ProcessingResponse.FromString(rope.joined()) == ProcessingResponse.FromString(in_one)


@pytest.mark.parametrize("end", [True, False])
def test_large_streamed_body_ends_with_its_last_piece(end: bool) -> None:
    body = in_pieces(BODY * 20, PIECE_BYTES + 1)
    said = [
        ProcessingResponse.FromString(one) for one in whole_messages([BodyStream(Phase.REQUEST_BODY, body, end=end)])
    ]
    pieces = [one.request_body.response.body_mutation.streamed_response for one in said]
    assert b"".join(piece.body for piece in pieces) == BODY * 20
    assert [piece.end_of_stream for piece in pieces] == [*[False] * (len(pieces) - 1), end]
    assert max(len(piece.body) for piece in pieces) <= PIECE_BYTES
