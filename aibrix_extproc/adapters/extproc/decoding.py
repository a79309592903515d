"""Makes events of Envoy's messages. With `encoding` it is the only module that reads or writes their fields."""

import re
from collections.abc import Callable
from typing import Final

from aibrix_extproc.adapters.extproc._generated.external_processor_pb2 import (
    HeaderMap,
    ProcessingMode,
    ProcessingRequest,
)
from aibrix_extproc.adapters.extproc.phases import PHASES
from aibrix_extproc.core.exchange import events
from aibrix_extproc.core.exchange.outputs import Phase
from aibrix_extproc.core.fleet.subset import Subset, subset_of
from aibrix_extproc.core.openai.contract.credentials import is_credential
from aibrix_extproc.core.openai.contract.headers import (
    DESTINATION_SERVED,
    DESTINATION_SUBSET,
    ORIGINAL_PATHS,
    READ_HEADERS,
    REQUEST_ID,
)
from aibrix_extproc.core.openai.contract.names import Names
from aibrix_extproc.rope import LARGE_BYTES, Rope

ATTRIBUTES: Final = "envoy.filters.http.ext_proc"
LB_NAMESPACE: Final = "envoy.lb"  # where endpoint pickers write the destination as dynamic metadata
SUBSET_NAMESPACE: Final = "envoy.lb.subset_hint"

_DUPLEX: Final = ProcessingMode.BodySendMode.FULL_DUPLEX_STREAMED
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_UUID_CHARACTERS: Final = 36
_ANY_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_READ: Final = READ_HEADERS | frozenset(ORIGINAL_PATHS)  # gateways of endpoint pickers send the latter
_WANTED: Final = Names(lambda name: name in _READ or is_credential(name))
_STATUS: Final = re.compile(r"[1-9][0-9]{2}")  # isdigit() accepts digits of other scripts, which int() refuses
_MAX_FLAGS: Final = 2.0**53  # integers up to here are exact in a double
# Looking up an enum member by name calls a function in Python.
_REQUEST_HEAD, _REQUEST_BODY, _RESPONSE_HEAD = Phase.REQUEST_HEAD, Phase.REQUEST_BODY, Phase.RESPONSE_HEAD


def phase_of(message: ProcessingRequest) -> Phase | None:
    """The phase of a message; None for an unknown kind."""
    return PHASES.get(message.WhichOneof("request") or "")


def duplex_directions(message: ProcessingRequest, *, default: bool) -> tuple[bool, bool]:
    """Whether request and response bodies come in FULL_DUPLEX_STREAMED, by the first message of a stream.

    `default` is for data planes whose first message does not say it.
    """
    if not message.HasField("protocol_config"):
        return default, default
    config = message.protocol_config
    return config.request_body_mode == _DUPLEX, config.response_body_mode == _DUPLEX


def decode(
    message: ProcessingRequest,
    phase: Phase,
    at: float,
    make_id: Callable[[], str],
    body: Rope | None = None,
    *,
    keep_id: bool = False,
) -> events.EnvoyEvent:
    """The event of a message. `body` is a large body that was taken out before the message was parsed.

    `make_id` names the exchange if Envoy sent no usable x-request-id. With `keep_id`, for gateways that are not ours,
    any id of reasonable form is usable.
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
            # We ask for bodies of errors only. The beginning of a large one is enough.
            answer = message.response_body.body if body is None else body.head(LARGE_BYTES)
            return events.ResponseBody(at, answer, message.response_body.end_of_stream)
        case Phase.REQUEST_TRAILERS:
            return events.RequestTrailers(at)
        case _:
            return events.ResponseTrailers(at)


def _headers(headers: HeaderMap) -> dict[str, str]:
    """The headers that are read anywhere, which is half of what an SDK sends."""
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
        bits = fields["response.flags"].number_value
        flags = int(bits) if 0 <= bits < _MAX_FLAGS else 0  # 0 for what is no set of bits, such as NaN
        address = fields["upstream.address"].string_value
        protocol = fields["request.protocol"].string_value
        # By now it is the id of the last attempt: UUID-1 and so on.
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
    """The endpoints that the gateway allows: a list, a string with commas, or both. An empty one allows none."""
    if not message.HasField("metadata_context"):
        return None
    metadata = message.metadata_context.filter_metadata
    if SUBSET_NAMESPACE not in metadata or DESTINATION_SUBSET not in (fields := metadata[SUBSET_NAMESPACE].fields):
        return None
    allowed = fields[DESTINATION_SUBSET]
    return subset_of((allowed.string_value, *(one.string_value for one in allowed.list_value.values)))


def _served(message: ProcessingRequest) -> str | None:
    """The endpoint that has answered, if the gateway reports it."""
    if not message.HasField("metadata_context"):
        return None
    metadata = message.metadata_context.filter_metadata
    if LB_NAMESPACE not in metadata or DESTINATION_SERVED not in (fields := metadata[LB_NAMESPACE].fields):
        return None
    return fields[DESTINATION_SERVED].string_value or None
