"""Makes serialised messages of replies. With `decoding` it is the only module that reads or writes their fields.

Header values are written as `raw_value`, because Envoy ignores the other field in several places.
"""

import math
from functools import lru_cache
from typing import Final

from msgspec.structs import replace

from aibrix_extproc.adapters.extproc._generated.external_processor_pb2 import (
    BodyMutation,
    BodyResponse,
    CommonResponse,
    HeaderMutation,
    HeaderValueOption,
    ProcessingMode,
    ProcessingResponse,
)
from aibrix_extproc.adapters.extproc.decoding import LB_NAMESPACE
from aibrix_extproc.adapters.extproc.dynamic_metadata import dynamic_metadata_bytes
from aibrix_extproc.adapters.extproc.header_bytes import header_bytes, raw_value
from aibrix_extproc.adapters.extproc.large_message import field_head
from aibrix_extproc.adapters.extproc.phases import FIELDS
from aibrix_extproc.core.exchange.outputs import Continue, Immediate, Phase, Reply
from aibrix_extproc.core.openai.contract.headers import DESTINATION
from aibrix_extproc.rope import Rope, rope_of

_RESPONSE_HEAD: Final = Phase.RESPONSE_HEAD  # looking up an enum member by name calls a function in Python
_RESPONSE_HEADERS: Final = ProcessingResponse.DESCRIPTOR.fields_by_name[FIELDS[_RESPONSE_HEAD]].number
# Field numbers from the message down to the bytes of a body that replaces another.
_BODY_PATHS: Final = {
    phase: (
        ProcessingResponse.DESCRIPTOR.fields_by_name[FIELDS[phase]].number,
        BodyResponse.DESCRIPTOR.fields_by_name["response"].number,
        CommonResponse.DESCRIPTOR.fields_by_name["body_mutation"].number,
        BodyMutation.DESCRIPTOR.fields_by_name["body"].number,
    )
    for phase in (Phase.REQUEST_BODY, Phase.RESPONSE_BODY)
}

MAX_REMEMBERED: Final = 1024  # answers
MAX_REMEMBERED_CHARACTERS: Final = 512  # of the headers of one; a client may send a long query in the path


def _continue_bytes(phase: Phase) -> bytes:
    response = ProcessingResponse()
    getattr(response, FIELDS[phase]).SetInParent()
    return response.SerializeToString()


# Most replies change nothing, so these are encoded once.
EMPTY_CONTINUE: Final = {phase: _continue_bytes(phase) for phase in Phase}
_TRAILERS: Final = (Phase.REQUEST_TRAILERS, Phase.RESPONSE_TRAILERS)
_OVERWRITE: Final = HeaderValueOption.HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD


def encode(reply: Reply) -> bytes:
    """The serialised ProcessingResponse. Of a reply with a large body it has everything but the body."""
    if type(reply) is Immediate:
        return _immediate(reply)
    if reply.phase in _TRAILERS or not _changes(reply):
        return EMPTY_CONTINUE[reply.phase]
    if reply.phase is _RESPONSE_HEAD and not reply.buffer_response:
        return header_bytes(_RESPONSE_HEADERS, reply.set_headers, reply.remove_headers)
    if reply.destination is None or reply.body is not None or not _is_short(reply):
        return _continue(reply)
    # Placed requests get the same few replies again and again; only the dynamic metadata differs. Protobuf reads
    # messages that follow each other as one.
    return (
        _placed(reply)
        if reply.dynamic_metadata is None
        else _placed(replace(reply, dynamic_metadata=None)) + dynamic_metadata_bytes(reply.dynamic_metadata)
    )


def _is_short(reply: Continue) -> bool:
    return sum(len(value) for _, value in reply.set_headers) <= MAX_REMEMBERED_CHARACTERS


def _continue(reply: Continue) -> bytes:
    response = ProcessingResponse()
    answered = getattr(response, FIELDS[reply.phase])
    answered.SetInParent()  # the phase must be set even if only the mode changes
    common = answered.response
    mutation = common.header_mutation
    for name, value in reply.set_headers:
        _set_header(mutation, name, value)
    if reply.remove_headers:
        mutation.remove_headers.extend(reply.remove_headers)
    if reply.destination is not None:
        # Otherwise Envoy keeps the catch-all route, which it chose before there was a destination.
        common.clear_route_cache = True
        _set_header(mutation, DESTINATION, reply.destination)
        fields = response.dynamic_metadata.fields[LB_NAMESPACE].struct_value.fields
        fields[DESTINATION].string_value = reply.destination
    if reply.body is not None:
        common.body_mutation.body = reply.body
    if reply.buffer_response:
        response.mode_override.response_body_mode = ProcessingMode.BodySendMode.BUFFERED
        response.mode_override.response_header_mode = ProcessingMode.HeaderSendMode.SEND
    if reply.skip_body:
        common.clear_route_cache = True
        response.mode_override.request_body_mode = ProcessingMode.BodySendMode.NONE
        response.mode_override.response_header_mode = ProcessingMode.HeaderSendMode.SEND
    serialised = response.SerializeToString()
    return serialised if reply.dynamic_metadata is None else serialised + dynamic_metadata_bytes(reply.dynamic_metadata)


_placed = lru_cache(MAX_REMEMBERED)(_continue)


def encode_large(reply: Continue, body: Rope) -> Rope:
    """The serialised reply with a large body, in pieces.

    Protobuf reads messages that follow each other as one, so the body follows in a message of its own.
    """
    head = b""
    for number in reversed(_BODY_PATHS[reply.phase]):
        head = field_head(number, body.size + len(head)) + head
    return rope_of((_continue(reply), head, *body.pieces))


def encode_message_timeout(seconds: float) -> bytes:
    """A serialised request to Envoy to wait longer for the answer to its last message. One is allowed per message."""
    response = ProcessingResponse()
    response.override_message_timeout.FromMilliseconds(math.ceil(seconds * 1000))
    return response.SerializeToString()


def encode_piece(phase: Phase, data: bytes, *, end: bool) -> bytes:
    """A serialised piece of a body, the only answer to a body in FULL_DUPLEX_STREAMED."""
    response = ProcessingResponse()
    streamed = getattr(response, FIELDS[phase]).response.body_mutation.streamed_response
    streamed.SetInParent()
    streamed.body = data
    streamed.end_of_stream = end
    return response.SerializeToString()


def _changes(reply: Continue) -> bool:
    return (
        bool(reply.set_headers or reply.remove_headers or reply.destination or reply.buffer_response)
        or reply.dynamic_metadata is not None
        or reply.skip_body
        or reply.body is not None
    )


def _immediate(reply: Immediate) -> bytes:
    response = ProcessingResponse()
    immediate = response.immediate_response
    immediate.status.code = reply.status
    immediate.body = reply.body
    immediate.details = reply.details
    for name, value in reply.headers:
        _set_header(immediate.headers, name, value)
    return response.SerializeToString()


def _set_header(mutation: HeaderMutation, name: str, value: str) -> None:
    option = mutation.set_headers.add()
    option.append_action = _OVERWRITE
    option.header.key = name
    option.header.raw_value = raw_value(value)
