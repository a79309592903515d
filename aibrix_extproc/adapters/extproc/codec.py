"""Protobuf to events and replies to bytes. The only place that knows the messages' fields.

Values are read and written as `raw_value`: Envoy looks at nothing else in several places.
"""

import math
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from msgspec.structs import replace

from aibrix_extproc.adapters.extproc._generated.external_processor_pb2 import (
    BodyMutation,
    BodyResponse,
    CommonResponse,
    HeaderMap,
    HeaderMutation,
    HeaderValueOption,
    ProcessingMode,
    ProcessingRequest,
    ProcessingResponse,
)
from aibrix_extproc.adapters.extproc.header_bytes import header_bytes, raw_value
from aibrix_extproc.adapters.extproc.large_message import field_head
from aibrix_extproc.adapters.extproc.note_bytes import note_bytes
from aibrix_extproc.core.exchange import events
from aibrix_extproc.core.exchange.outputs import Continue, Immediate, Phase, Reply
from aibrix_extproc.core.fleet.subset import Subset, subset_of
from aibrix_extproc.core.openai.contract.credentials import is_credential
from aibrix_extproc.core.openai.contract.headers import (
    DESTINATION,
    DESTINATION_SERVED,
    DESTINATION_SUBSET,
    ORIGINAL_PATHS,
    READ_HEADERS,
    REQUEST_ID,
)
from aibrix_extproc.core.openai.contract.names import Names
from aibrix_extproc.rope import LARGE_BYTES, Rope, rope_of

ATTRIBUTES: Final = "envoy.filters.http.ext_proc"
LB_NAMESPACE: Final = "envoy.lb"  # where endpoint pickers leave the destination as dynamic metadata
SUBSET_NAMESPACE: Final = "envoy.lb.subset_hint"

_DUPLEX: Final = ProcessingMode.BodySendMode.FULL_DUPLEX_STREAMED
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ANY_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_READ: Final = READ_HEADERS | frozenset(ORIGINAL_PATHS)  # the latter of an endpoint picker's gateways
_WANTED: Final = Names(lambda name: name in _READ or is_credential(name))
_UUID_CHARACTERS: Final = 36
_STATUS: Final = re.compile(r"[1-9][0-9]{2}")  # isdigit() would take other scripts' digits, which int() refuses
_MOST_FLAGS: Final = 2.0**53  # what a double tells exactly
PHASES: Final = {
    "request_headers": Phase.REQUEST_HEAD,
    "request_body": Phase.REQUEST_BODY,
    "request_trailers": Phase.REQUEST_TRAILERS,
    "response_headers": Phase.RESPONSE_HEAD,
    "response_body": Phase.RESPONSE_BODY,
    "response_trailers": Phase.RESPONSE_TRAILERS,
}
_FIELDS: Final = {phase: field for field, phase in PHASES.items()}
# Each look-up of an enum member by name is a call of a function in Python.
_REQUEST_HEAD, _REQUEST_BODY, _RESPONSE_HEAD = Phase.REQUEST_HEAD, Phase.REQUEST_BODY, Phase.RESPONSE_HEAD
_RESPONSE_HEADERS: Final = ProcessingResponse.DESCRIPTOR.fields_by_name[_FIELDS[_RESPONSE_HEAD]].number
# Where a body that replaces another stands in an answer: numbers of the fields from the message down to the bytes.
_BODY_PATHS: Final = {
    phase: (
        ProcessingResponse.DESCRIPTOR.fields_by_name[_FIELDS[phase]].number,
        BodyResponse.DESCRIPTOR.fields_by_name["response"].number,
        CommonResponse.DESCRIPTOR.fields_by_name["body_mutation"].number,
        BodyMutation.DESCRIPTOR.fields_by_name["body"].number,
    )
    for phase in (Phase.REQUEST_BODY, Phase.RESPONSE_BODY)
}


def phase_of(message: ProcessingRequest) -> Phase | None:
    """Which phase a message belongs to; None for one of a kind we do not know."""
    return PHASES.get(message.WhichOneof("request") or "")


def duplex_directions(message: ProcessingRequest, *, unless_told: bool) -> tuple[bool, bool]:
    """Whether request and response bodies come in FULL_DUPLEX_STREAMED; the first message of a stream tells."""
    if not message.HasField("protocol_config"):
        return unless_told, unless_told
    told = message.protocol_config
    return told.request_body_mode == _DUPLEX, told.response_body_mode == _DUPLEX


def decode(
    message: ProcessingRequest,
    phase: Phase,
    at: float,
    make_id: Callable[[], str],
    body: Rope | None = None,
    *,
    keep_id: bool = False,
) -> events.EnvoyEvent:
    """The event behind a message, of which a large body was taken out before it was parsed.

    `make_id` names the exchange when Envoy sent no usable x-request-id. `keep_id`: any id of reasonable form is usable,
    as that of a gateway which is not ours.
    """
    if phase is _REQUEST_HEAD:
        head = message.request_headers
        headers = _headers(head.headers)
        given = headers.get(REQUEST_ID, "")
        kept = given if keep_id and _ANY_ID.fullmatch(given) else _request_id(given)
        return events.RequestHead(at, kept or make_id(), headers, head.end_of_stream, _subset(message))
    if phase is _RESPONSE_HEAD:
        return _response_head(message, at, make_id)
    if phase is _REQUEST_BODY:
        if body is not None:
            return events.LargeRequestBody(at, body, message.request_body.end_of_stream)
        return events.RequestBody(at, message.request_body.body, message.request_body.end_of_stream)
    return _decode_rare(message, phase, at, body)


def _decode_rare(message: ProcessingRequest, phase: Phase, at: float, body: Rope | None) -> events.EnvoyEvent:
    match phase:
        case Phase.RESPONSE_BODY:
            # Of a large answer that we asked for, an error at most, the beginning tells enough.
            answer = message.response_body.body if body is None else body.head(LARGE_BYTES)
            return events.ResponseBody(at, answer, message.response_body.end_of_stream)
        case Phase.REQUEST_TRAILERS:
            return events.RequestTrailers(at)
        case _:
            return events.ResponseTrailers(at)


def _headers(headers: HeaderMap) -> dict[str, str]:
    """The headers that somebody reads; half of what an SDK sends is none of our business."""
    return {
        name: raw.decode("latin-1") if (raw := one.raw_value) else one.value
        for one in headers.headers
        if _WANTED[name := one.key]
    }


def _request_id(given: str) -> str:
    """The UUID that Envoy makes for each request at the edge; empty for anything else."""
    return given if _UUID.fullmatch(given) else ""


def _response_head(message: ProcessingRequest, at: float, make_id: Callable[[], str]) -> events.ResponseHead:
    headers = _headers(message.response_headers.headers)
    status = headers.get(":status", "")
    details, flags, address, request_id, protocol = "", 0, "", "", ""
    served = _served(message)
    if ATTRIBUTES in message.attributes:
        fields = message.attributes[ATTRIBUTES].fields
        details = fields["response.code_details"].string_value
        told = fields["response.flags"].number_value
        flags = int(told) if 0 <= told < _MOST_FLAGS else 0  # none for what is no set of bits, such as NaN
        address = fields["upstream.address"].string_value
        protocol = fields["request.protocol"].string_value
        # It has become that of the last attempt: UUID-1 and so on.
        request_id = _request_id(fields["request.id"].string_value[:_UUID_CHARACTERS])
    return events.ResponseHead(
        at,
        int(status) if _STATUS.fullmatch(status) else 0,
        headers,
        message.response_headers.end_of_stream,
        details,
        flags,
        address or served or "",
        request_id or make_id(),
        served,
        protocol,
    )


def _subset(message: ProcessingRequest) -> Subset | None:
    """The gateway's hint: a list, a string with commas, or both at once. One that says nothing allows nothing."""
    if not message.HasField("metadata_context"):
        return None
    hints = message.metadata_context.filter_metadata
    if SUBSET_NAMESPACE not in hints or DESTINATION_SUBSET not in (fields := hints[SUBSET_NAMESPACE].fields):
        return None
    hint = fields[DESTINATION_SUBSET]
    return subset_of((hint.string_value, *(one.string_value for one in hint.list_value.values)))


def _served(message: ProcessingRequest) -> str | None:
    """The endpoint that has answered, where the gateway says so."""
    if not message.HasField("metadata_context"):
        return None
    told = message.metadata_context.filter_metadata
    if LB_NAMESPACE not in told or DESTINATION_SERVED not in (fields := told[LB_NAMESPACE].fields):
        return None
    return fields[DESTINATION_SERVED].string_value or None


MAX_REMEMBERED: Final = 1024  # answers
MAX_REMEMBERED_CHARACTERS: Final = 512  # of the headers of one: a path may have a long query of a client


def _continue_bytes(phase: Phase) -> bytes:
    response = ProcessingResponse()
    getattr(response, _FIELDS[phase]).SetInParent()
    return response.SerializeToString()


# Most answers change nothing; they are encoded once.
EMPTY_CONTINUE: Final = {phase: _continue_bytes(phase) for phase in Phase}
_TRAILERS: Final = (Phase.REQUEST_TRAILERS, Phase.RESPONSE_TRAILERS)
_OVERWRITE: Final = HeaderValueOption.HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD


def encode(reply: Reply) -> bytes:
    """The serialised ProcessingResponse, of one with a large body all but the body."""
    if type(reply) is Immediate:
        return _immediate(reply)
    if reply.phase in _TRAILERS or not _changes(reply):
        return EMPTY_CONTINUE[reply.phase]
    if reply.phase is _RESPONSE_HEAD and not reply.buffer_response:
        return header_bytes(_RESPONSE_HEADERS, reply.set_headers, reply.remove_headers)
    if reply.destination is None or reply.body is not None or not _is_short(reply):
        return _continue(reply)
    # Where a request goes is said in the same few ways again and again; only the notes name the exchange. Messages that
    # follow each other are read as one.
    return _placed(reply) if reply.notes is None else _placed(replace(reply, notes=None)) + note_bytes(reply.notes)


def _is_short(reply: Continue) -> bool:
    return sum(len(value) for _, value in reply.set_headers) <= MAX_REMEMBERED_CHARACTERS


def _continue(reply: Continue) -> bytes:
    response = ProcessingResponse()
    answered = getattr(response, _FIELDS[reply.phase])
    answered.SetInParent()  # the phase must be named even if only the mode changes
    common = answered.response
    mutation = common.header_mutation
    for name, value in reply.set_headers:
        _set_header(mutation, name, value)
    if reply.remove_headers:
        mutation.remove_headers.extend(reply.remove_headers)
    if reply.destination is not None:
        # Without it Envoy keeps the catch-all route that it chose before there was a destination.
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
    return serialised if reply.notes is None else serialised + note_bytes(reply.notes)


_placed = lru_cache(MAX_REMEMBERED)(_continue)


def encode_large(reply: Continue, body: Rope) -> Rope:
    """The serialised answer with a large body, in pieces.

    Messages that follow each other are read as one, so the body follows in a message of its own.
    """
    head = b""
    for number in reversed(_BODY_PATHS[reply.phase]):
        head = field_head(number, body.size + len(head)) + head
    return rope_of((_continue(reply), head, *body.pieces))


def encode_message_timeout(seconds: float) -> bytes:
    """Asks Envoy to wait longer for the answer to its last message, serialised. Possible once for a message."""
    response = ProcessingResponse()
    response.override_message_timeout.FromMilliseconds(math.ceil(seconds * 1000))
    return response.SerializeToString()


def encode_piece(phase: Phase, data: bytes, *, end: bool) -> bytes:
    """A piece of a body, serialised; FULL_DUPLEX_STREAMED knows no other answer to a body."""
    response = ProcessingResponse()
    streamed = getattr(response, _FIELDS[phase]).response.body_mutation.streamed_response
    streamed.SetInParent()
    streamed.body = data
    streamed.end_of_stream = end
    return response.SerializeToString()


def _changes(reply: Continue) -> bool:
    return (
        bool(reply.set_headers or reply.remove_headers or reply.destination or reply.buffer_response)
        or reply.notes is not None
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
