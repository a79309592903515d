"""What a placed request looks like to the engine: headers changed, body spliced, dynamic metadata left in Envoy."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from aibrix_extproc.core.exchange.outputs import DynamicMetadata, Headers
from aibrix_extproc.core.openai.contract import headers
from aibrix_extproc.core.openai.contract.controls import BODY_CONTROLS, HEADER_CONTROLS, Otherwise
from aibrix_extproc.core.openai.contract.credentials import is_credential, without_credentials
from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.contract.names import Names
from aibrix_extproc.core.openai.contract.operations import ModelIn, Operation, Stream
from aibrix_extproc.core.openai.wire import request
from aibrix_extproc.core.openai.wire.prefill import Split, Unsplit, split
from aibrix_extproc.core.openai.wire.splice import Edit, in_order, spliced
from aibrix_extproc.core.placing import Caller, Placement
from aibrix_extproc.core.routing.queue.classes import PRIORITIES, class_of
from aibrix_extproc.core.routing.request import seconds_of
from aibrix_extproc.rope import Rope

REQUEST_ID_FIELD: Final = "request_id"  # vLLM's own: the id that a response will have

CLIENTS_HEAD_START: Final = 1.0  # seconds between an SDK's own time-out and our answer to the same
# The destination is not removed but written over.
_REMOVED: Final = frozenset({*headers.NOT_FORWARDED, *headers.RESERVED_REQUEST_HEADERS} - {headers.DESTINATION})
_REMOVED_OR_CONTROL: Final = _REMOVED | set(HEADER_CONTROLS)
_REMOVED_WITH_CONTROLS: Final = Names(lambda name: name in _REMOVED_OR_CONTROL or is_credential(name))
_REMOVED_BUT_CONTROLS: Final = Names(
    lambda name: name in _REMOVED or is_credential(name)
)  # for callers that may use them


class Body(msgspec.Struct, frozen=True, gc=False):
    """A body that replaces the client's (None: the client's goes on untouched) and what was done to it."""

    data: bytes | Rope | None
    hide_usage: bool = False


UNCHANGED: Final = Body(None)


def unsupported(operation: Operation, facts: request.RequestFacts) -> Problem | None:
    """The refusal of a parameter that engines ignore although it changes the answer."""
    if not operation.makes_response or not facts.names_conversation:
        return None
    message = (
        "Unsupported parameter: 'conversation' is not supported with this model. Send the earlier turns in 'input', or "
        "name the last response in 'previous_response_id'."
    )
    return Problem("unsupported_parameter", {"message": message}, param="conversation")


def forbidden_control(facts: request.RequestFacts, caller: Caller) -> Problem | None:
    """The refusal of a body that steers the engine for a caller that may not."""
    if caller.engine_controls or not facts.controls:
        return None
    for one in facts.controls:
        if BODY_CONTROLS[one.name].otherwise is Otherwise.REFUSED:
            return Problem("engine_control", {"param": one.name}, param=one.name)
    return None


def changed_body(
    operation: Operation,
    facts: request.RequestFacts,
    data: bytes | Rope,
    caller: Caller,
    *,
    request_id: str,
    response_id: str | None,
    metering: bool,
    transfer: tuple[Edit, ...] = (),
) -> Body:
    """The body for the engine: usage asked for when it is metered, the response's id written, controls taken out.

    `transfer` says where the KV cache of the prompt is.
    """
    edits: list[Edit] = [*transfer]
    if response_id is not None:
        edits.append(_named(facts, response_id))  # vLLM takes the id of a response from the request
    hide_usage = metering and operation.stream is Stream.DATA_DONE and facts.stream and not facts.includes_usage
    if hide_usage and facts.ask_usage is not None:
        edits.append(facts.ask_usage)
    if facts.controls:
        edits += _without_controls(operation, facts, caller, None if response_id else request_id)
    if not edits:
        return UNCHANGED
    return Body(spliced(data, in_order(edits)), hide_usage=hide_usage)


def split_body(
    operation: Operation, facts: request.RequestFacts, data: bytes | Rope, caller: Caller, request_id: str
) -> tuple[Split, bytes] | Unsplit:
    """How a body is split, and the part for the prefill engine."""
    if isinstance(data, Rope):
        return Unsplit.LARGE
    found = split(data, facts.inside, operation.answer_limits)
    if isinstance(found, Unsplit):
        return found
    edits = [*found.prefill, *_without_controls(operation, facts, caller, request_id)]
    return found, spliced(data, in_order(edits))


def _without_controls(
    operation: Operation, facts: request.RequestFacts, caller: Caller, request_id: str | None
) -> Iterable[Edit]:
    if facts.controls and not caller.engine_controls and operation.model_in is ModelIn.JSON:
        return _neutral(facts, request_id)
    return ()


def _named(facts: request.RequestFacts, response_id: str) -> Edit:
    """Writes the id, over the client's own if there is one: engines refuse or misread a member that comes twice."""
    value = msgspec.json.encode(response_id)
    for one in facts.controls:
        if one.name == REQUEST_ID_FIELD:
            return Edit(one.start, one.end, value)
    return Edit(facts.inside, facts.inside, b'"%b":%b,' % (REQUEST_ID_FIELD.encode(), value))


def _neutral(facts: request.RequestFacts, request_id: str | None) -> Iterator[Edit]:
    """Writes values without effect over controls that are to be removed."""
    for one in facts.controls:
        if one.name != REQUEST_ID_FIELD:
            yield Edit(one.start, one.end, BODY_CONTROLS[one.name].neutral)
        elif request_id is not None:
            yield Edit(one.start, one.end, msgspec.json.encode(request_id))


def destination(placement: Placement, attempts: int, *, once: bool) -> str:
    """The addresses for Envoy's attempts. `once`: a single attempt, for a request with a KV cache to take over.

    The prefill engine frees the blocks once an engine has read them. Another attempt, also at the same engine, would
    read what is there then. Envoy has no endpoint for an attempt beyond the list, and answers 503.
    """
    return placement.first.address if once else placement.destination(attempts)


def set_headers(
    given: Mapping[str, str], path: str, request_id: str, api_key: str | None, body: bytes | Rope | None
) -> Headers:
    """Headers that change on the way to the engine; none that already has its value."""
    changed: list[tuple[str, str]] = []
    if given.get(headers.REQUEST_ID) != request_id:
        changed.append((headers.REQUEST_ID, request_id))
    raw_path = given.get(":path", "")
    _, mark, query = raw_path.partition("?")
    wanted = path + mark + without_credentials(query) if query else path + mark
    if raw_path != wanted and raw_path:  # an endpoint picker's gateway may not send the path
        changed.append((":path", wanted))
    if api_key is not None:
        changed.append(("authorization", f"Bearer {api_key}"))
    if given.get("accept-encoding", "identity") != "identity":
        changed.append(("accept-encoding", "identity"))  # what comes back may have to be read
    if body is not None and "content-length" in given:
        changed.append(("content-length", str(len(body))))
    return tuple(changed)


def priority(given: Mapping[str, str], facts: request.RequestFacts | None, caller: Caller, *, batch: bool) -> Headers:
    """The engine's priority of a request by its class; a caller that may steer engines can say another one."""
    if caller.engine_controls and (
        headers.ENGINE_PRIORITY in given
        or (facts is not None and any(one.name == "priority" for one in facts.controls))
    ):
        return ()
    return ((headers.ENGINE_PRIORITY, str(PRIORITIES[class_of(caller, batch=batch)])),)


def forged_headers(given: Mapping[str, str]) -> tuple[str, ...]:
    """Headers that only we may set."""
    if given.keys().isdisjoint(headers.RESERVED_REQUEST_HEADERS):  # the usual case
        return ()
    return tuple(name for name in headers.RESERVED_REQUEST_HEADERS if name in given)


def removed_headers(given: Mapping[str, str], caller: Caller, changed: Headers) -> tuple[str, ...]:
    """Headers that engines do not get: credentials, and controls of engines unless the caller may use them."""
    removed = _REMOVED_BUT_CONTROLS if caller.engine_controls else _REMOVED_WITH_CONTROLS
    found = [name for name in given if removed[name]]
    for name, _ in changed:
        if name in found:
            found.remove(name)
    return tuple(found)


def dynamic_metadata_of(
    operation: Operation,
    request_id: str,
    model: str,
    caller: Caller,
    body: Body,
    *,
    batch_id: str,
    response_id: str,
    reservation: str,
) -> DynamicMetadata:
    """The dynamic metadata of a placed request, for Envoy's stream filter and access log."""
    stream = operation.stream.name.lower()
    return DynamicMetadata(
        request_id,
        operation.id,
        model,
        caller.name,
        stream,
        body.hide_usage,
        key_id=caller.key_id,
        batch_id=batch_id,
        response_id=response_id,
        reservation=reservation,
    )


def wait_seconds(asked: str | None, longest: float) -> float:
    """How long to wait for the response's head: a little longer than the SDK does, within the gateway's bound.

    An SDK whose own time is over raises its time-out exception. Our 504 at the same moment would win that race
    at random and raise another one.
    """
    seconds = seconds_of(asked)
    return seconds + CLIENTS_HEAD_START if seconds is not None and seconds <= longest else longest
